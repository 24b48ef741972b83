//! The error codes.

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $text:literal $status:literal $message:literal;)*) => {
        /// A code of the S3 error list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", $text, "`, status ", $status, ": ", $message)]
                $(#[$doc])*
                $name,
            )*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            /// The code as it stands in the document.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$name => $text,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }

            /// What a person reads unless the refusal says more.
            pub const fn message(self) -> &'static str {
                match self { $(ErrorCode::$name => $message,)* }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported "AccessControlListNotSupported" 400 "The bucket does not allow access control lists.";
    AccessDenied "AccessDenied" 403 "Access denied.";
    AccessForbidden "AccessForbidden" 403 "Access is forbidden.";
    AuthorizationHeaderMalformed "AuthorizationHeaderMalformed" 400 "The authorization header is malformed.";
    AuthorizationQueryParametersError "AuthorizationQueryParametersError" 400 "The authorization query parameters are malformed.";
    BadDigest "BadDigest" 400 "The checksum you sent does not match what was received.";
    BadRequest "BadRequest" 400 "The request could not be understood.";
    BucketAlreadyExists "BucketAlreadyExists" 409 "The bucket name is taken.";
    BucketAlreadyOwnedByYou "BucketAlreadyOwnedByYou" 409 "You own a bucket of this name already.";
    BucketNotEmpty "BucketNotEmpty" 409 "The bucket you tried to delete is not empty.";
    ConditionalRequestConflict "ConditionalRequestConflict" 409 "A conflicting operation is under way; try again.";
    EntityTooLarge "EntityTooLarge" 400 "Your upload is larger than an object may be.";
    EntityTooSmall "EntityTooSmall" 400 "Your upload is smaller than the least allowed size.";
    ExpiredToken "ExpiredToken" 400 "The provided token has expired.";
    IllegalLocationConstraintException "IllegalLocationConstraintException" 400 "The location constraint does not fit this endpoint.";
    IncompleteBody "IncompleteBody" 400 "The body is shorter or framed otherwise than the request said.";
    InternalError "InternalError" 500 "An internal error happened; try again.";
    InvalidAccessKeyId "InvalidAccessKeyId" 403 "The access key does not exist.";
    IllegalVersioningConfiguration "IllegalVersioningConfigurationException" 400 "The versioning configuration is invalid.";
    InvalidArgument "InvalidArgument" 400 "An argument is invalid.";
    InvalidBucketAclWithObjectOwnership "InvalidBucketAclWithObjectOwnership" 400 "Access control lists can not be set with the object ownership BucketOwnerEnforced.";
    InvalidBucketName "InvalidBucketName" 400 "The bucket name is not valid.";
    InvalidBucketState "InvalidBucketState" 409 "The request is not valid for the current state of the bucket.";
    InvalidDigest "InvalidDigest" 400 "The Content-MD5 you sent is not valid.";
    InvalidEncryptionAlgorithm "InvalidEncryptionAlgorithmError" 400 "The encryption algorithm is not valid; the only one is AES256.";
    InvalidLocationConstraint "InvalidLocationConstraint" 400 "The location constraint is not valid.";
    InvalidObjectState "InvalidObjectState" 403 "The operation is not valid for the object's storage class.";
    InvalidPart "InvalidPart" 400 "One or more of the parts could not be found, or its ETag does not match.";
    InvalidPartNumber "InvalidPartNumber" 416 "The requested part number is not satisfiable.";
    InvalidPartOrder "InvalidPartOrder" 400 "The list of parts was not in ascending order.";
    InvalidRdmaToken "InvalidRDMAToken" 400 "The x-amz-rdma-token is malformed.";
    InvalidRange "InvalidRange" 416 "The requested range is not satisfiable.";
    InvalidPolicyDocument "InvalidPolicyDocument" 400 "The form's policy is not valid.";
    InvalidRetentionPeriod "InvalidRetentionPeriod" 400 "The retention period must be a positive number, and not too long.";
    InvalidRequest "InvalidRequest" 400 "The request is not valid.";
    InvalidSecurity "InvalidSecurity" 403 "The provided security credentials are not valid.";
    InvalidStorageClass "InvalidStorageClass" 400 "The storage class is not valid.";
    InvalidTag "InvalidTag" 400 "A tag is not valid.";
    InvalidToken "InvalidToken" 400 "The provided token is malformed or otherwise not valid.";
    InvalidUri "InvalidURI" 400 "The URI could not be parsed.";
    KeyTooLong "KeyTooLongError" 400 "The key is too long.";
    MalformedAcl "MalformedACLError" 400 "The access control list is not well formed or does not follow its schema.";
    MalformedPolicy "MalformedPolicy" 400 "The policy is not valid.";
    MalformedPost "MalformedPOSTRequest" 400 "The body is no well-formed multipart/form-data.";
    MalformedXml "MalformedXML" 400 "The XML you sent is not well formed or does not follow its schema.";
    MalformedTrailer "MalformedTrailerError" 400 "The trailer is malformed or does not match what was announced.";
    MaxMessageLengthExceeded "MaxMessageLengthExceeded" 400 "The request is too big.";
    MetadataTooLarge "MetadataTooLarge" 400 "The metadata is larger than allowed.";
    MethodNotAllowed "MethodNotAllowed" 405 "The method is not allowed for this resource.";
    MissingContentLength "MissingContentLength" 411 "The Content-Length header is missing.";
    MissingRequestBody "MissingRequestBodyError" 400 "The request body is empty.";
    MissingSecurityHeader "MissingSecurityHeader" 400 "A required header is missing.";
    NoSuchBucket "NoSuchBucket" 404 "The specified bucket does not exist.";
    NoSuchBucketPolicy "NoSuchBucketPolicy" 404 "The bucket has no policy.";
    NoSuchCorsConfiguration "NoSuchCORSConfiguration" 404 "The bucket has no CORS configuration.";
    NoSuchKey "NoSuchKey" 404 "The specified key does not exist.";
    NoSuchLifecycleConfiguration "NoSuchLifecycleConfiguration" 404 "The bucket has no lifecycle configuration.";
    NoSuchObjectLockConfiguration "NoSuchObjectLockConfiguration" 404 "The object has no lock configuration.";
    NoSuchPublicAccessBlockConfiguration "NoSuchPublicAccessBlockConfiguration" 404 "The bucket has no public access block configuration.";
    NoSuchRdmaSession "NoSuchRDMASession" 404 "There is no such session, or it is not yours.";
    NoSuchTagSet "NoSuchTagSet" 404 "There is no tag set.";
    NoSuchUpload "NoSuchUpload" 404 "The multipart upload does not exist: it was aborted, completed or never begun.";
    NoSuchVersion "NoSuchVersion" 404 "The specified version does not exist.";
    NoSuchWebsiteConfiguration "NoSuchWebsiteConfiguration" 404 "The bucket has no website configuration.";
    NotImplemented "NotImplemented" 501 "The request asks for what is not implemented.";
    NotModified "NotModified" 304 "Not modified.";
    ObjectLockConfigurationNotFound "ObjectLockConfigurationNotFoundError" 404 "The bucket has no object lock configuration.";
    OperationAborted "OperationAborted" 409 "A conflicting operation on this resource is under way; try again.";
    OwnershipControlsNotFound "OwnershipControlsNotFoundError" 404 "The bucket has no ownership controls.";
    PermanentRedirect "PermanentRedirect" 301 "The bucket is at another endpoint.";
    PreconditionFailed "PreconditionFailed" 412 "At least one of the preconditions did not hold.";
    /// Not an error to HTTP: the field's clients look for this status, and for `x-amz-rdma-reply: 501` beside it.
    RdmaNotSupported "RDMANotSupported" 200 "The bytes can not be moved as proposed; nothing was stored. Send them in a body.";
    RdmaTransferFailed "RDMATransferFailed" 500 "Moving the bytes failed; nothing was stored.";
    ReplicationConfigurationNotFound "ReplicationConfigurationNotFoundError" 404 "The bucket has no replication configuration.";
    RequestTimeTooSkewed "RequestTimeTooSkewed" 403 "The request's time differs too much from the server's.";
    RequestTimeout "RequestTimeout" 400 "The body did not arrive in time.";
    ServerSideEncryptionConfigurationNotFound "ServerSideEncryptionConfigurationNotFoundError" 404 "The bucket has no default encryption configuration.";
    ServiceUnavailable "ServiceUnavailable" 503 "The service is unavailable; try again.";
    SignatureDoesNotMatch "SignatureDoesNotMatch" 403 "The signature does not match the one your secret key makes.";
    SlowDown "SlowDown" 503 "Reduce your request rate.";
    TokenRefreshRequired "TokenRefreshRequired" 400 "The provided token must be refreshed.";
    TooManyBuckets "TooManyBuckets" 400 "You have as many buckets as are allowed.";
    UnexpectedContent "UnexpectedContent" 400 "The request takes no content.";
    UnresolvableGrantByEmailAddress "UnresolvableGrantByEmailAddress" 400 "No account has the e-mail address you provided.";
    UserKeyMustBeSpecified "UserKeyMustBeSpecified" 400 "The form must hold the field key; if it does, it must stand before the file.";
    XAmzContentSha256Mismatch "XAmzContentSHA256Mismatch" 400 "The x-amz-content-sha256 you sent does not match the body.";
}

//! What a bucket or an object answers about configurations it does not have.
//!
//! Clients ask before they work (`s3cmd info`, SDK helpers, infrastructure tools), and tell "there is none" from "it is
//! not known" by the code. Every answer here is true of a store without the feature.

use super::Reply;
use crate::protocol::error::{ErrorCode, S3Error};
use crate::protocol::operation::OperationName;
use crate::protocol::xml::{VersioningStatus, XmlWriter};

/// Who owns a bucket or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner<'a> {
    /// Its canonical identifier.
    pub id: &'a str,
    /// Its name for people.
    pub display_name: &'a str,
}

impl Owner<'_> {
    /// Writes the owner as element `name`.
    pub(super) fn write(&self, xml: &mut XmlWriter, name: &'static str) {
        xml.open(name);
        self.write_inside(xml);
        xml.close();
    }

    fn write_inside(&self, xml: &mut XmlWriter) {
        xml.text("ID", self.id).text("DisplayName", self.display_name);
    }
}

/// The reply of GetBucketLocation. "Buckets in Region us-east-1 have a LocationConstraint of null."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html>.)
pub fn bucket_location(region: &str) -> Reply {
    let xmlns = ("xmlns", crate::protocol::xml::NAMESPACE);
    let mut xml = XmlWriter::new();
    let region = if region == "us-east-1" { "" } else { region };
    xml.text_with("LocationConstraint", &[xmlns], region);
    Reply::document(xml.finish())
}

/// The reply of GetBucketVersioning. "If you have never enabled versioning on a bucket, versioning is not enabled … and a
/// GetBucketVersioning request does not return a versioning state value."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html>.)
pub fn bucket_versioning(status: Option<VersioningStatus>) -> Reply {
    let mut xml = XmlWriter::root("VersioningConfiguration");
    xml.optional("Status", status.map(VersioningStatus::name));
    Reply::document(xml.finish())
}

/// The answer to `operation` on a bucket or an object of `owner` that never had what it asks for; `None` if the
/// operation reads no configuration. The caller has checked that the bucket, or the object, exists.
///
/// | operation | answer |
/// |---|---|
/// | GetBucketNotificationConfiguration, …Logging, …AccelerateConfiguration, GetObjectTagging | an empty document |
/// | GetBucketAcl, GetObjectAcl | the owner has full control |
/// | GetBucketRequestPayment | the owner pays |
/// | GetBucketOwnershipControls | `BucketOwnerEnforced`: there are no access control lists |
/// | GetPublicAccessBlock, GetBucketPolicyStatus | everything is blocked, nothing is public |
/// | GetBucketPolicy, …Cors, …Tagging, …LifecycleConfiguration, …Encryption, …Replication, …Website, GetObjectLockConfiguration, GetObjectRetention, GetObjectLegalHold | 404 with the code of its own |
///
/// (*List of error codes*, <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>; the documents: each
/// operation's page, "Response Syntax".)
pub fn default_configuration(operation: OperationName, owner: Owner<'_>) -> Option<Result<Reply, S3Error>> {
    use OperationName as O;
    let none = |code: ErrorCode| Some(Err(S3Error::new(code)));
    let mut xml;
    match operation {
        O::GetBucketPolicy => return none(ErrorCode::NoSuchBucketPolicy),
        O::GetBucketCors => return none(ErrorCode::NoSuchCorsConfiguration),
        O::GetBucketTagging => return none(ErrorCode::NoSuchTagSet),
        O::GetBucketLifecycle | O::GetBucketLifecycleConfiguration => {
            return none(ErrorCode::NoSuchLifecycleConfiguration);
        }
        O::GetBucketEncryption => return none(ErrorCode::ServerSideEncryptionConfigurationNotFound),
        O::GetBucketReplication => return none(ErrorCode::ReplicationConfigurationNotFound),
        O::GetBucketWebsite => return none(ErrorCode::NoSuchWebsiteConfiguration),
        O::GetObjectLockConfiguration => return none(ErrorCode::ObjectLockConfigurationNotFound),
        O::GetObjectRetention | O::GetObjectLegalHold => {
            return none(ErrorCode::NoSuchObjectLockConfiguration);
        }
        O::GetBucketNotification | O::GetBucketNotificationConfiguration => {
            xml = XmlWriter::root("NotificationConfiguration");
        }
        O::GetBucketLogging => xml = XmlWriter::root("BucketLoggingStatus"),
        O::GetBucketAccelerateConfiguration => xml = XmlWriter::root("AccelerateConfiguration"),
        O::GetObjectTagging => {
            xml = XmlWriter::root("Tagging");
            xml.open("TagSet");
        }
        O::GetBucketRequestPayment => {
            xml = XmlWriter::root("RequestPaymentConfiguration");
            xml.text("Payer", "BucketOwner");
        }
        O::GetBucketOwnershipControls => {
            xml = XmlWriter::root("OwnershipControls");
            xml.open("Rule").text("ObjectOwnership", "BucketOwnerEnforced");
        }
        O::GetPublicAccessBlock => {
            xml = XmlWriter::root("PublicAccessBlockConfiguration");
            for name in ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
            {
                xml.text(name, "true");
            }
        }
        O::GetBucketPolicyStatus => {
            xml = XmlWriter::root("PolicyStatus");
            xml.text("IsPublic", "false");
        }
        O::GetBucketAcl | O::GetObjectAcl => {
            xml = XmlWriter::root("AccessControlPolicy");
            owner.write(&mut xml, "Owner");
            xml.open("AccessControlList").open("Grant");
            let xsi = ("xmlns:xsi", "http://www.w3.org/2001/XMLSchema-instance");
            xml.open_raw("Grantee", &[xsi, ("xsi:type", "CanonicalUser")]);
            owner.write_inside(&mut xml);
            xml.close().text("Permission", "FULL_CONTROL");
        }
        _ => return None,
    }
    Some(Ok(Reply::document(xml.finish())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reply::ReplyBody;

    const OWNER: Owner<'static> = Owner { id: "id", display_name: "name" };

    fn body(reply: Reply) -> String {
        assert_eq!(reply.status, 200);
        let ReplyBody::Bytes(document) = reply.body else { panic!("no document") };
        let text = String::from_utf8(document).unwrap();
        let (_, root) = text.split_once('\n').unwrap();
        root.replace(" xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"", "")
    }

    #[test]
    fn each_configuration_that_is_not_there_has_its_answer() {
        // Documents as the SDKs read them, and refusals by their code; other operations are not answered.
        use OperationName as O;
        let grant = "<AccessControlPolicy><Owner><ID>id</ID><DisplayName>name</DisplayName></Owner><AccessControlList>\
            <Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">\
            <ID>id</ID><DisplayName>name</DisplayName></Grantee><Permission>FULL_CONTROL</Permission></Grant>\
            </AccessControlList></AccessControlPolicy>";
        let documents = [
            (
                O::GetBucketNotificationConfiguration,
                "<NotificationConfiguration></NotificationConfiguration>",
            ),
            (O::GetBucketLogging, "<BucketLoggingStatus></BucketLoggingStatus>"),
            (O::GetBucketAccelerateConfiguration, "<AccelerateConfiguration></AccelerateConfiguration>"),
            (O::GetObjectTagging, "<Tagging><TagSet></TagSet></Tagging>"),
            (
                O::GetBucketRequestPayment,
                "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
            ),
            (
                O::GetBucketOwnershipControls,
                "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>",
            ),
            (O::GetBucketPolicyStatus, "<PolicyStatus><IsPublic>false</IsPublic></PolicyStatus>"),
            (O::GetBucketAcl, grant),
            (O::GetObjectAcl, grant),
        ];
        for (operation, expected) in documents {
            let reply = default_configuration(operation, OWNER).unwrap().unwrap();
            assert_eq!(body(reply), expected, "{operation:?}");
        }
        let refusals = [
            (O::GetBucketPolicy, "NoSuchBucketPolicy"),
            (O::GetBucketCors, "NoSuchCORSConfiguration"),
            (O::GetBucketTagging, "NoSuchTagSet"),
            (O::GetBucketLifecycleConfiguration, "NoSuchLifecycleConfiguration"),
            (O::GetBucketEncryption, "ServerSideEncryptionConfigurationNotFoundError"),
            (O::GetBucketReplication, "ReplicationConfigurationNotFoundError"),
            (O::GetBucketWebsite, "NoSuchWebsiteConfiguration"),
            (O::GetObjectLockConfiguration, "ObjectLockConfigurationNotFoundError"),
            (O::GetObjectRetention, "NoSuchObjectLockConfiguration"),
        ];
        for (operation, code) in refusals {
            let error = default_configuration(operation, OWNER).unwrap().unwrap_err();
            assert_eq!((error.code.as_str(), error.status()), (code, 404), "{operation:?}");
        }
        assert!(default_configuration(O::GetPublicAccessBlock, OWNER).unwrap().is_ok());
        assert!(default_configuration(O::PutObject, OWNER).is_none());
    }

    #[test]
    fn a_bucket_that_never_kept_versions_has_no_status() {
        // Nothing, or one of two words.
        let around = |inside: &str| format!("<VersioningConfiguration>{inside}</VersioningConfiguration>");
        assert_eq!(body(bucket_versioning(None)), around(""));
        for status in [VersioningStatus::Enabled, VersioningStatus::Suspended] {
            let inside = format!("<Status>{}</Status>", status.name());
            assert_eq!(body(bucket_versioning(Some(status))), around(&inside));
        }
    }

    #[test]
    fn the_first_region_has_no_name() {
        // us-east-1 is an empty constraint, every other region its name.
        assert_eq!(body(bucket_location("us-east-1")), "<LocationConstraint></LocationConstraint>");
        assert_eq!(body(bucket_location("eu-west-1")), "<LocationConstraint>eu-west-1</LocationConstraint>");
    }
}

//! What a bucket answers about configurations that no bucket here has.
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

/// The reply of GetBucketVersioning. "If the versioning state has never been set on a bucket, it has no versioning state; a
/// GetBucketVersioning request does not return a versioning state value."
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html>.)
pub fn bucket_versioning(status: Option<VersioningStatus>) -> Reply {
    let mut xml = XmlWriter::root("VersioningConfiguration");
    xml.optional("Status", status.map(VersioningStatus::name));
    Reply::document(xml.finish())
}

/// The reply of GetBucketPolicyStatus.
pub fn policy_status(is_public: bool) -> Reply {
    let mut xml = XmlWriter::root("PolicyStatus");
    xml.value("IsPublic", is_public);
    Reply::document(xml.finish())
}

/// The answer to `operation` on a bucket, about what no bucket here has; `None` if it asks for something else. The caller has checked
/// that the bucket exists.
///
/// | operation | answer |
/// |---|---|
/// | GetBucketNotificationConfiguration, …Logging, …AccelerateConfiguration | an empty document |
/// | GetBucketRequestPayment | the owner pays |
/// | GetBucketEncryption, …Replication, …Website | 404 with the code of its own |
///
/// (*List of error codes*, <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>; the documents: each
/// operation's page, "Response Syntax".)
pub fn default_configuration(operation: OperationName) -> Option<Result<Reply, S3Error>> {
    use OperationName as O;
    let none = |code: ErrorCode| Some(Err(S3Error::new(code)));
    let mut xml;
    match operation {
        O::GetBucketEncryption => return none(ErrorCode::ServerSideEncryptionConfigurationNotFound),
        O::GetBucketReplication => return none(ErrorCode::ReplicationConfigurationNotFound),
        O::GetBucketWebsite => return none(ErrorCode::NoSuchWebsiteConfiguration),
        O::GetBucketNotification | O::GetBucketNotificationConfiguration => {
            xml = XmlWriter::root("NotificationConfiguration");
        }
        O::GetBucketLogging => xml = XmlWriter::root("BucketLoggingStatus"),
        O::GetBucketAccelerateConfiguration => xml = XmlWriter::root("AccelerateConfiguration"),
        O::GetBucketRequestPayment => {
            xml = XmlWriter::root("RequestPaymentConfiguration");
            xml.text("Payer", "BucketOwner");
        }
        _ => return None,
    }
    Some(Ok(Reply::document(xml.finish())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::reply::ReplyBody;

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
        let documents = [
            (
                O::GetBucketNotificationConfiguration,
                "<NotificationConfiguration></NotificationConfiguration>",
            ),
            (O::GetBucketLogging, "<BucketLoggingStatus></BucketLoggingStatus>"),
            (O::GetBucketAccelerateConfiguration, "<AccelerateConfiguration></AccelerateConfiguration>"),
            (
                O::GetBucketRequestPayment,
                "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
            ),
        ];
        for (operation, expected) in documents {
            let reply = default_configuration(operation).unwrap().unwrap();
            assert_eq!(body(reply), expected, "{operation:?}");
        }
        let refusals = [
            (O::GetBucketEncryption, "ServerSideEncryptionConfigurationNotFoundError"),
            (O::GetBucketReplication, "ReplicationConfigurationNotFoundError"),
            (O::GetBucketWebsite, "NoSuchWebsiteConfiguration"),
        ];
        for (operation, code) in refusals {
            let error = default_configuration(operation).unwrap().unwrap_err();
            assert_eq!((error.code.as_str(), error.status()), (code, 404), "{operation:?}");
        }
        assert!(default_configuration(O::PutObject).is_none());
        assert_eq!(body(policy_status(true)), "<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>");
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

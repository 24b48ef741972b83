//! The XML that requests bring: lists of parts and keys, and what buckets and objects are set to.
//!
//! * What is stored is read again, and stored the same.
//! * Limits hold: of keys, parts, tags and rules.

use crossdock_s3::protocol::acl::{AclRequest, CannedAcl};
use crossdock_s3::protocol::cors::CorsConfiguration;
use crossdock_s3::protocol::lifecycle::LifecycleConfiguration;
use crossdock_s3::protocol::lock::{Retention, legal_hold_document, parse_legal_hold};
use crossdock_s3::protocol::operation::DocumentKind;
use crossdock_s3::protocol::tagging::{OBJECT_TAGS_MAX, TagSet};
use crossdock_s3::protocol::xml::{
    CompletedMultipartUpload, CreateBucketConfiguration, DELETE_KEYS_MAX, Delete, PARTS_MAX,
    VersioningConfiguration,
};

/// Tries one input as each of them: they differ in their root.
pub fn run(bytes: &[u8]) {
    for kind in DocumentKind::ALL {
        if let Ok(stored) = kind.stored(bytes, "bucket") {
            let again = kind.stored(&stored, "bucket");
            assert_eq!(
                again.as_ref(),
                Ok(&stored),
                "{kind:?}: what is stored is read again, and stored the same"
            );
        }
    }
    lists(bytes);
    settings(bytes);
}

fn lists(bytes: &[u8]) {
    if let Ok(complete) = CompletedMultipartUpload::parse(bytes) {
        assert!((1..=usize::from(PARTS_MAX)).contains(&complete.parts.len()));
        assert!(complete.parts.is_sorted_by(|left, right| left.number < right.number), "parts rise");
        assert!(complete.parts.iter().all(|part| (1..=PARTS_MAX).contains(&part.number)));
    }
    if let Ok(delete) = Delete::parse(bytes) {
        assert!((1..=DELETE_KEYS_MAX).contains(&delete.objects.len()));
        assert!(delete.objects.iter().all(|object| !object.key.is_empty()));
    }
    let _ = (CreateBucketConfiguration::parse(bytes), VersioningConfiguration::parse(bytes));
}

fn settings(bytes: &[u8]) {
    if let Ok(tags) = TagSet::parse(bytes, OBJECT_TAGS_MAX) {
        assert!(tags.tags.len() <= OBJECT_TAGS_MAX);
        assert_eq!(TagSet::parse(&tags.document(), OBJECT_TAGS_MAX).as_ref(), Ok(&tags));
    }
    if let Ok(Some(retention)) = Retention::parse(bytes) {
        assert_eq!(Retention::parse(&retention.document()), Ok(Some(retention)));
    }
    if let Ok(on) = parse_legal_hold(bytes) {
        assert_eq!(parse_legal_hold(&legal_hold_document(on)), Ok(on));
    }
    if let Ok(rules) = CorsConfiguration::parse(bytes) {
        for origin in ["null", "https://example.com", "*"] {
            let (actual, preflight) =
                (rules.actual(origin, "GET"), rules.preflight(origin, "GET", "x-amz-date, range"));
            assert!(preflight.is_none() || actual.is_some(), "what may be asked for may be done");
        }
    }
    if let Ok(rules) = LifecycleConfiguration::parse(bytes) {
        for modified_ms in [0, 1_700_000_000_000, u64::MAX] {
            let due = rules.expires(b"logs/a", 10, &TagSet::default(), modified_ms);
            // A date may lie before the object; days never do.
            assert!(due.is_none_or(|(_, id)| id.len() <= 255));
        }
    }
    let _ = (AclRequest::parse(bytes), CannedAcl::parse(bytes));
}

/// A document of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    [
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part><PartNumber>1</PartNumber><ETag>&quot;9e107d9d372bb6826bd81d3542a419d6&#34;</ETag><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part><Part><ETag>x</ETag><PartNumber>10000</PartNumber></Part></CompleteMultipartUpload>",
        "<?xml version='1.0'?><Delete><Quiet>true</Quiet><Object><Key> a &amp; b</Key><VersionId>null</VersionId></Object><Object><Key><![CDATA[c]]></Key><ETag>*</ETag></Object></Delete>",
        "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint><Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags></CreateBucketConfiguration>",
        "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
        "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag><Tag><Key>d</Key><Value/></Tag></TagSet></Tagging>",
        "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-02T03:04:05.678Z</RetainUntilDate></Retention>",
        "<LegalHold><Status>ON</Status></LegalHold>",
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
        "<CORSConfiguration><CORSRule><ID>i</ID><AllowedOrigin>https://*.example.com</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod><AllowedHeader>x-amz-*</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>3000</MaxAgeSeconds></CORSRule></CORSConfiguration>",
        "<LifecycleConfiguration><Rule><ID>r</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></And></Filter><Expiration><Days>3</Days></Expiration><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule><Rule><Prefix/><Status>Disabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>",
        "<LifecycleConfiguration><Rule><Prefix>a</Prefix><Status>Enabled</Status><Expiration><Date>2030-01-01T00:00:00Z</Date></Expiration></Rule></LifecycleConfiguration>",
        "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerPreferred</ObjectOwnership></Rule></OwnershipControls>",
        "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>false</IgnorePublicAcls><BlockPublicPolicy>TRUE</BlockPublicPolicy><RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>",
        "<AccessControlPolicy><Owner><ID>o</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee><Permission>READ</Permission></Grant><Grant><Grantee xsi:type=\"CanonicalUser\"><ID>o</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>",
        "{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"s3:GetObject\",\"Resource\":\"arn:aws:s3:::bucket/*\"}}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

//! The names that a policy may use: of actions, and of what conditions ask for.
//!
//! A name that nobody knows would be passed over when a request is judged, and a denial that stands on it would never come. So it is
//! refused when the policy is set, as what AWS knows and this server can not tell is.
//! (<https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>, "Actions defined by Amazon S3" and
//! "Condition keys for Amazon S3"; <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>.)

use super::condition::Facts;
use super::pattern::{Pattern, Text};
use std::sync::LazyLock;

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Object,
    Bucket,
    /// Accounts, and things that there are none of here: access points, batch jobs, grants, storage lenses.
    Other,
}

const OBJECT: &str = "AbortMultipartUpload BypassGovernanceRetention DeleteObject DeleteObjectAnnotation DeleteObjectTagging \
    DeleteObjectVersion DeleteObjectVersionAnnotation DeleteObjectVersionTagging GetObject GetObjectAcl GetObjectAnnotation \
    GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging GetObjectTorrent GetObjectVersion GetObjectVersionAcl \
    GetObjectVersionAnnotation GetObjectVersionAttributes GetObjectVersionForReplication GetObjectVersionTagging \
    GetObjectVersionTorrent InitiateReplication ListMultipartUploadParts ListObjectAnnotations ObjectOwnerOverrideToBucketOwner \
    PutObject PutObjectAcl PutObjectAnnotation PutObjectLegalHold PutObjectRetention PutObjectTagging PutObjectVersionAcl \
    PutObjectVersionAnnotation PutObjectVersionTagging RenameObject ReplicateDelete ReplicateObject ReplicateTags RestoreObject \
    SelectObjectContent UpdateObjectEncryption";

const BUCKET: &str = "CreateBucket CreateBucketMetadataConfiguration CreateBucketMetadataTableConfiguration CreateSession \
    DeleteBucket DeleteBucketMetadataConfiguration DeleteBucketMetadataTableConfiguration DeleteBucketPolicy DeleteBucketWebsite \
    GetAccelerateConfiguration GetAnalyticsConfiguration GetBucketAbac GetBucketAcl GetBucketCORS GetBucketLocation GetBucketLogging \
    GetBucketMetadataConfiguration GetBucketMetadataTableConfiguration GetBucketNotification GetBucketObjectLockConfiguration \
    GetBucketOwnershipControls GetBucketPolicy GetBucketPolicyStatus GetBucketPublicAccessBlock GetBucketRequestPayment \
    GetBucketTagging GetBucketVersioning GetBucketWebsite GetEncryptionConfiguration GetIntelligentTieringConfiguration \
    GetInventoryConfiguration GetLifecycleConfiguration GetMetricsConfiguration GetReplicationConfiguration ListBucket \
    ListBucketMultipartUploads ListBucketVersions ListTagsForResource PauseReplication PutAccelerateConfiguration \
    PutAnalyticsConfiguration PutBucketAbac PutBucketAcl PutBucketCORS PutBucketLogging PutBucketNotification \
    PutBucketObjectLockConfiguration PutBucketOwnershipControls PutBucketPolicy PutBucketPublicAccessBlock PutBucketRequestPayment \
    PutBucketTagging PutBucketVersioning PutBucketWebsite PutEncryptionConfiguration PutIntelligentTieringConfiguration \
    PutInventoryConfiguration PutLifecycleConfiguration PutMetricsConfiguration PutReplicationConfiguration TagResource UntagResource \
    UpdateBucketMetadataAnnotationTableConfiguration UpdateBucketMetadataInventoryTableConfiguration \
    UpdateBucketMetadataJournalTableConfiguration";

const OTHER: &str = "AssociateAccessGrantsIdentityCenter CreateAccessGrant CreateAccessGrantsInstance CreateAccessGrantsLocation \
    CreateAccessPoint CreateAccessPointForObjectLambda CreateJob CreateMultiRegionAccessPoint CreateStorageLensGroup \
    DeleteAccessGrant DeleteAccessGrantsInstance DeleteAccessGrantsInstanceResourcePolicy DeleteAccessGrantsLocation \
    DeleteAccessPoint DeleteAccessPointForObjectLambda DeleteAccessPointPolicy DeleteAccessPointPolicyForObjectLambda \
    DeleteJobTagging DeleteMultiRegionAccessPoint DeleteStorageLensConfiguration DeleteStorageLensConfigurationTagging \
    DeleteStorageLensGroup DescribeJob DescribeMultiRegionAccessPointOperation DissociateAccessGrantsIdentityCenter GetAccessGrant \
    GetAccessGrantsInstance GetAccessGrantsInstanceForPrefix GetAccessGrantsInstanceResourcePolicy GetAccessGrantsLocation \
    GetAccessPoint GetAccessPointConfigurationForObjectLambda GetAccessPointForObjectLambda GetAccessPointPolicy \
    GetAccessPointPolicyForObjectLambda GetAccessPointPolicyStatus GetAccessPointPolicyStatusForObjectLambda \
    GetAccountPublicAccessBlock GetDataAccess GetJobTagging GetMultiRegionAccessPoint GetMultiRegionAccessPointPolicy \
    GetMultiRegionAccessPointPolicyStatus GetMultiRegionAccessPointRoutes GetStorageLensConfiguration \
    GetStorageLensConfigurationTagging GetStorageLensDashboard GetStorageLensGroup ListAccessGrants ListAccessGrantsInstances \
    ListAccessGrantsLocations ListAccessPoints ListAccessPointsForObjectLambda ListAllMyBuckets ListAllMyDirectoryBuckets \
    ListCallerAccessGrants ListDirectoryBuckets ListJobs ListMultiRegionAccessPoints ListStorageLensConfigurations \
    ListStorageLensGroups PutAccessGrantsInstanceResourcePolicy PutAccessPointConfigurationForObjectLambda PutAccessPointPolicy \
    PutAccessPointPolicyForObjectLambda PutAccessPointPublicAccessBlock PutAccountPublicAccessBlock PutJobTagging \
    PutMultiRegionAccessPointPolicy PutStorageLensConfiguration PutStorageLensConfigurationTagging \
    SubmitMultiRegionAccessPointRoutes UpdateAccessGrantsLocation UpdateJobPriority UpdateJobStatus UpdateStorageLensGroup";

/// Every action in lower case, as patterns of actions are.
static ACTIONS: LazyLock<Vec<(String, On)>> = LazyLock::new(|| {
    let lists = [(OBJECT, On::Object), (BUCKET, On::Bucket), (OTHER, On::Other)];
    let named = |(list, on): (&'static str, On)| {
        list.split_ascii_whitespace().map(move |name| (format!("s3:{}", name.to_ascii_lowercase()), on))
    };
    lists.into_iter().flat_map(named).collect()
});

/// Whether there is an action that `pattern`, which is in lower case, means.
pub(super) fn is_action(pattern: &Pattern) -> bool {
    matched(pattern).next().is_some()
}

/// Whether one of the actions that `pattern` means is done to what one of `resources` can be.
pub(super) fn applies(pattern: &Pattern, resources: &[String]) -> bool {
    let (bucket, object) = resources.iter().fold((false, false), |(bucket, object), resource| {
        let is_deep = resource.contains('/');
        let is_open = resource.contains(['*', '?']) || resource.contains("${");
        (bucket || !is_deep, object || is_deep || is_open)
    });
    matched(pattern).any(|on| on == On::Bucket && bucket || on == On::Object && object)
}

fn matched(pattern: &Pattern) -> impl Iterator<Item = On> {
    let facts = Facts::default();
    let is_meant = move |(name, _): &&(String, On)| pattern.matches(&Text::new(name), &facts);
    ACTIONS.iter().filter(is_meant).map(|(_, on)| *on)
}

/// The names of facts that a server has to tell of each request that they can be told of: who judges relies on it. Names that end in `/`
/// are of tags, whose keys follow.
pub const KEYS_TOLD: [&str; 49] = [
    "aws:CurrentTime",
    "aws:EpochTime",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:ResourceAccount",
    "aws:SecureTransport",
    "aws:SourceIp",
    "aws:UserAgent",
    "aws:ViaAWSService",
    "aws:userid",
    "aws:username",
    "s3:LocationConstraint",
    "s3:ObjectCreationOperation",
    "s3:RequestObjectTagKeys",
    "s3:ResourceAccount",
    "s3:TlsVersion",
    "s3:VersionId",
    "s3:authType",
    "s3:delimiter",
    "s3:if-match",
    "s3:if-none-match",
    "s3:max-keys",
    "s3:object-lock-legal-hold",
    "s3:object-lock-mode",
    "s3:object-lock-remaining-retention-days",
    "s3:object-lock-retain-until-date",
    "s3:prefix",
    "s3:signatureAge",
    "s3:signatureversion",
    "s3:x-amz-acl",
    "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source",
    "s3:x-amz-grant-full-control",
    "s3:x-amz-grant-read",
    "s3:x-amz-grant-read-acp",
    "s3:x-amz-grant-write",
    "s3:x-amz-grant-write-acp",
    "s3:x-amz-metadata-directive",
    "s3:x-amz-object-ownership",
    "s3:x-amz-server-side-encryption",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-server-side-encryption-customer-algorithm",
    "s3:x-amz-storage-class",
    "s3:x-amz-website-redirect-location",
    "s3:ExistingObjectTag/",
    "s3:RequestObjectTag/",
];

/// What is true of no request here: that it comes through a network or a service of AWS, or from a role, a session, a device, an
/// organization, an access point or a batch job.
const NEVER: [&str; 38] = [
    "aws:AssumedRoot",
    "aws:CalledVia",
    "aws:CalledViaFirst",
    "aws:CalledViaLast",
    "aws:ChatbotSourceArn",
    "aws:Ec2InstanceSourcePrivateIPv4",
    "aws:Ec2InstanceSourceVpc",
    "aws:FederatedProvider",
    "aws:MultiFactorAuthAge",
    "aws:MultiFactorAuthPresent",
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceName",
    "aws:PrincipalServiceNamesList",
    "aws:PrincipalTag/",
    "aws:ResourceOrgID",
    "aws:ResourceOrgPaths",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIdentity",
    "aws:SourceOrgID",
    "aws:SourceOrgPaths",
    "aws:SourceOwner",
    "aws:SourceVpc",
    "aws:SourceVpcArn",
    "aws:SourceVpce",
    "aws:TokenIssueTime",
    "aws:VpcSourceIp",
    "aws:VpceAccount",
    "aws:VpceOrgID",
    "aws:VpceOrgPaths",
    "s3:AccessGrantsInstanceArn",
    "s3:AccessPointNetworkOrigin",
    "s3:AccessPointTag/",
    "s3:DataAccessPointAccount",
    "s3:DataAccessPointArn",
    "s3:InventoryAccessibleOptionalFields",
    "s3:isReplicationPauseRequest",
];

/// Whether conditions and variables may ask for `name`, which is compared without case.
pub(super) fn is_key(name: &str) -> bool {
    KEYS_TOLD.iter().chain(&NEVER).any(|known| match known.strip_suffix('/') {
        None => name.eq_ignore_ascii_case(known),
        Some(_) => {
            let start = name.get(..known.len());
            name.len() > known.len() && start.is_some_and(|start| start.eq_ignore_ascii_case(known))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_known_and_done_to_something() {
        // By name, by pattern; to buckets, to objects, to either where the resource leaves it open.
        let applies = |action: &str, resource: &str| {
            let pattern = Pattern::wild(&action.to_ascii_lowercase());
            is_action(&pattern).then(|| applies(&pattern, &[resource.to_owned()]))
        };
        for (action, resource, expected) in [
            ("s3:GetObject", "b/*", Some(true)),
            ("s3:GetObject", "b", Some(false)),
            ("s3:GetObject", "b*", Some(true)),
            ("s3:GetObject", "b?k", Some(true)),
            ("s3:ListBucket", "b", Some(true)),
            ("s3:ListBucket", "b*", Some(true)),
            ("s3:ListBucket", "b/*", Some(false)),
            ("s3:*", "b", Some(true)),
            ("*", "b/k", Some(true)),
            ("s3:CreateJob", "b", Some(false)),
            ("s3:Describe*", "b", Some(false)),
            ("s3:HeadObject", "b/*", None),
            ("s3:GetObjects*", "b/*", None),
            ("s3:", "b/*", None),
        ] {
            assert_eq!(applies(action, resource), expected, "{action} {resource}");
        }
    }

    #[test]
    fn keys_are_compared_without_case() {
        // Whole names; those of tags with a tag behind them.
        for (name, expected) in [
            ("aws:sourceip", true),
            ("AWS:SOURCEIP", true),
            ("aws:SourceIpp", false),
            ("s3:existingobjecttag/a", true),
            ("s3:ExistingObjectTag/", false),
            ("s3:ExistingObjectTag", false),
            ("aws:PrincipalTag/team", true),
            ("aws:ResourceAccount", true),
            ("aws:ResourceTag/team", false),
            ("prefix", false),
            ("", false),
        ] {
            assert_eq!(is_key(name), expected, "{name}");
        }
    }
}

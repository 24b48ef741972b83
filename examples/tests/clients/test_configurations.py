"""What buckets and objects are set to, through boto3: set, told as it was set, removed."""

import datetime
import json
import uuid

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.configurations

OWNER_CHOICES = ["BucketOwnerPreferred", "ObjectWriter", "BucketOwnerEnforced"]


def code(operation, **arguments):
    """The S3 error code of a call that must fail."""
    with pytest.raises(ClientError) as refused:
        operation(**arguments)
    return refused.value.response["Error"]["Code"]


def told(reply):
    """A reply without what every reply has."""
    return {name: value for name, value in reply.items() if name != "ResponseMetadata"}


@pytest.fixture
def vault(s3):
    """A bucket with object lock; what is locked in it goes by the bypass."""
    name = f"vault-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    yield name
    listed = s3.list_object_versions(Bucket=name)
    for entry in listed.get("Versions", []) + listed.get("DeleteMarkers", []):
        s3.delete_object(Bucket=name, Key=entry["Key"], VersionId=entry["VersionId"], BypassGovernanceRetention=True)
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def open_bucket(s3, bucket):
    """A bucket where lists have a say and the public may be let in."""
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]})
    s3.delete_public_access_block(Bucket=bucket)
    return bucket


def test_tags_of_a_bucket(s3, bucket):
    """Put, get and delete; without any there is a code for it."""
    tags = [{"Key": "colour", "Value": "blue"}, {"Key": "size é", "Value": ""}]
    assert code(s3.get_bucket_tagging, Bucket=bucket) == "NoSuchTagSet"
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tags
    s3.delete_bucket_tagging(Bucket=bucket)
    assert code(s3.get_bucket_tagging, Bucket=bucket) == "NoSuchTagSet"


def test_tags_of_an_object(s3, bucket):
    """With the object, anew, and none; a reader is told how many there are."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=two%20words")
    assert s3.get_object(Bucket=bucket, Key="k")["TagCount"] == 2
    both = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "two words"}]
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == both
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": both[:1]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == both[:1]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []


def test_a_lock_of_a_bucket(s3, vault, bucket):
    """The default retention is told, and what is put is retained by it."""
    assert code(s3.get_object_lock_configuration, Bucket=bucket) == "ObjectLockConfigurationNotFoundError"
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    s3.put_object_lock_configuration(Bucket=vault, ObjectLockConfiguration=lock)
    assert s3.get_object_lock_configuration(Bucket=vault)["ObjectLockConfiguration"] == lock
    version = s3.put_object(Bucket=vault, Key="k", Body=b"x")["VersionId"]
    head = s3.head_object(Bucket=vault, Key="k")
    days = (head["ObjectLockRetainUntilDate"] - head["LastModified"]).total_seconds() / 86_400
    assert head["ObjectLockMode"] == "GOVERNANCE" and abs(days - 3) < 0.01
    assert code(s3.delete_object, Bucket=vault, Key="k", VersionId=version) == "AccessDenied"


def test_a_lock_of_an_object(s3, vault):
    """Retention and legal hold are set, told and lifted; each alone keeps the version."""
    version = s3.put_object(Bucket=vault, Key="k", Body=b"x")["VersionId"]
    named = {"Bucket": vault, "Key": "k", "VersionId": version}
    assert code(s3.get_object_retention, **named) == "NoSuchObjectLockConfiguration"
    until = datetime.datetime(2999, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    s3.put_object_retention(Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until}, **named)
    assert s3.get_object_retention(**named)["Retention"] == {"Mode": "GOVERNANCE", "RetainUntilDate": until}
    s3.put_object_legal_hold(LegalHold={"Status": "ON"}, **named)
    assert s3.get_object_legal_hold(**named)["LegalHold"] == {"Status": "ON"}
    assert code(s3.delete_object, BypassGovernanceRetention=True, **named) == "AccessDenied"
    s3.put_object_legal_hold(LegalHold={"Status": "OFF"}, **named)
    assert code(s3.delete_object, **named) == "AccessDenied"
    s3.delete_object(BypassGovernanceRetention=True, **named)


def test_ownership_of_a_bucket(s3, bucket):
    """New buckets enforce the owner's; each choice is told, and there may be none."""
    def rules():
        return s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]

    assert rules() == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    for choice in OWNER_CHOICES:
        s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": choice}]})
        assert rules() == [{"ObjectOwnership": choice}]
    s3.delete_bucket_ownership_controls(Bucket=bucket)
    assert code(s3.get_bucket_ownership_controls, Bucket=bucket) == "OwnershipControlsNotFoundError"


def test_lists_of_a_bucket_and_an_object(s3, open_bucket):
    """Canned, by grants, as they were read; where lists have a say."""
    bucket = open_bucket
    everybody = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}

    def public(grants):
        return [grant["Permission"] for grant in grants if grant["Grantee"] == everybody]

    s3.put_bucket_acl(Bucket=bucket, ACL="public-read")
    acl = told(s3.get_bucket_acl(Bucket=bucket))
    assert public(acl["Grants"]) == ["READ"]
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=acl)
    assert told(s3.get_bucket_acl(Bucket=bucket)) == acl
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert public(s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]) == []
    s3.put_object_acl(Bucket=bucket, Key="k", GrantRead=f'uri="{everybody["URI"]}"')
    assert public(s3.get_object_acl(Bucket=bucket, Key="k")["Grants"]) == ["READ"]


def test_a_policy_of_a_bucket(s3, open_bucket):
    """Set, told word for word, found public, removed."""
    bucket = open_bucket
    policy = json.dumps({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "read", "Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"],
            "Resource": f"arn:aws:s3:::{bucket}/public/*",
        }],
    })
    assert code(s3.get_bucket_policy, Bucket=bucket) == "NoSuchBucketPolicy"
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == policy
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"] == {"IsPublic": True}
    s3.delete_bucket_policy(Bucket=bucket)
    assert code(s3.get_bucket_policy, Bucket=bucket) == "NoSuchBucketPolicy"


def test_the_block_of_public_access(s3, bucket):
    """New buckets have it whole; it is told as it was set, and refuses what it blocks."""
    kinds = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
    whole = dict.fromkeys(kinds, True)
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == whole
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    policy = json.dumps({"Statement": [statement]})
    assert code(s3.put_bucket_policy, Bucket=bucket, Policy=policy) == "AccessDenied"
    part = whole | {"BlockPublicPolicy": False}
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=part)
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"] == part
    s3.put_bucket_policy(Bucket=bucket, Policy=policy)
    s3.delete_public_access_block(Bucket=bucket)
    assert code(s3.get_public_access_block, Bucket=bucket) == "NoSuchPublicAccessBlockConfiguration"


def test_rules_for_browsers(s3, bucket):
    """CORS rules come back as they were set."""
    rules = [
        {
            "ID": "first", "AllowedHeaders": ["x-amz-*"], "AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://*.example"],
            "ExposeHeaders": ["ETag"], "MaxAgeSeconds": 600,
        },
        {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]},
    ]
    assert code(s3.get_bucket_cors, Bucket=bucket) == "NoSuchCORSConfiguration"
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    s3.delete_bucket_cors(Bucket=bucket)
    assert code(s3.get_bucket_cors, Bucket=bucket) == "NoSuchCORSConfiguration"


def test_rules_for_ends(s3, bucket):
    """Lifecycle rules come back as they were set, and a reader is told when an object goes."""
    rules = [
        {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}},
        {
            "ID": "rest", "Status": "Enabled",
            "Filter": {"And": {"Prefix": "tmp/", "Tags": [{"Key": "a", "Value": "b"}], "ObjectSizeGreaterThan": 10}},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 7, "NewerNoncurrentVersions": 2},
        },
        {"ID": "parts", "Status": "Disabled", "Filter": {"Prefix": ""}, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1}},
    ]
    assert code(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == "NoSuchLifecycleConfiguration"
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})
    assert s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"] == rules
    assert 'rule-id="logs"' in s3.put_object(Bucket=bucket, Key="logs/1", Body=b"x")["Expiration"]
    s3.delete_bucket_lifecycle(Bucket=bucket)
    assert code(s3.get_bucket_lifecycle_configuration, Bucket=bucket) == "NoSuchLifecycleConfiguration"


def test_what_is_the_same_of_every_bucket(s3, bucket):
    """Settings that are not here are told as those of a bucket that never had them."""
    assert code(s3.get_bucket_encryption, Bucket=bucket) == "ServerSideEncryptionConfigurationNotFoundError"
    assert code(s3.get_bucket_replication, Bucket=bucket) == "ReplicationConfigurationNotFoundError"
    assert code(s3.get_bucket_website, Bucket=bucket) == "NoSuchWebsiteConfiguration"
    assert told(s3.get_bucket_accelerate_configuration(Bucket=bucket)) == {}
    assert told(s3.get_bucket_logging(Bucket=bucket)) == {}
    assert told(s3.get_bucket_notification_configuration(Bucket=bucket)) == {}
    assert told(s3.get_bucket_request_payment(Bucket=bucket)) == {"Payer": "BucketOwner"}
    # And may be set to what they are, as tools do that take back what they set; to nothing else.
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})
    s3.put_bucket_request_payment(Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"})
    queue = {"QueueArn": "arn:aws:sqs:us-east-1:1:q", "Events": ["s3:ObjectCreated:*"]}
    for put, settings in (
        (s3.put_bucket_notification_configuration, {"NotificationConfiguration": {"QueueConfigurations": [queue]}}),
        (s3.put_bucket_notification_configuration, {"NotificationConfiguration": {"EventBridgeConfiguration": {}}}),
        (s3.put_bucket_logging, {"BucketLoggingStatus": {"LoggingEnabled": {"TargetBucket": bucket, "TargetPrefix": ""}}}),
        (s3.put_bucket_request_payment, {"RequestPaymentConfiguration": {"Payer": "Requester"}}),
    ):
        assert code(put, Bucket=bucket, **settings) == "NotImplemented"

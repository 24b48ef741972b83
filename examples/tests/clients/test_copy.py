"""Copies made by the server."""

import pytest
from botocore.exceptions import ClientError

from conftest import payload

pytestmark = pytest.mark.copy

MIB = 1024 * 1024


@pytest.mark.parametrize("size", [0, 500, 100_000, 5 * MIB + 3])
def test_a_copy_is_the_same_bytes(s3, bucket, size):
    """A copy has the bytes, ETag and metadata of its source, and outlives it."""
    body = payload(size)
    put = s3.put_object(Bucket=bucket, Key="a b/source+é", Body=body, Metadata={"colour": "blue"}, ContentType="text/x")
    copied = s3.copy_object(Bucket=bucket, Key="target", CopySource={"Bucket": bucket, "Key": "a b/source+é"})
    assert copied["CopyObjectResult"]["ETag"] == put["ETag"]
    s3.delete_object(Bucket=bucket, Key="a b/source+é")
    got = s3.get_object(Bucket=bucket, Key="target")
    assert got["Body"].read() == body
    assert (got["Metadata"], got["ContentType"]) == ({"colour": "blue"}, "text/x")


def test_a_copy_may_replace_the_metadata(s3, bucket):
    """REPLACE takes the metadata of the request; onto itself that is a change of metadata alone."""
    s3.put_object(Bucket=bucket, Key="object", Body=b"x", Metadata={"colour": "blue"})
    source = {"Bucket": bucket, "Key": "object"}
    with pytest.raises(ClientError) as refused:
        s3.copy_object(Bucket=bucket, Key="object", CopySource=source)
    assert refused.value.response["Error"]["Code"] == "InvalidRequest"
    s3.copy_object(
        Bucket=bucket, Key="object", CopySource=source, MetadataDirective="REPLACE", Metadata={"shape": "round"}
    )
    got = s3.get_object(Bucket=bucket, Key="object")
    assert (got["Body"].read(), got["Metadata"]) == (b"x", {"shape": "round"})


def test_a_copy_depends_on_its_source(s3, bucket):
    """A missing source is NoSuchKey, and a condition on the source is honoured."""
    with pytest.raises(ClientError) as absent:
        s3.copy_object(Bucket=bucket, Key="target", CopySource={"Bucket": bucket, "Key": "absent"})
    assert absent.value.response["Error"]["Code"] == "NoSuchKey"
    etag = s3.put_object(Bucket=bucket, Key="source", Body=b"x")["ETag"]
    arguments = {"Bucket": bucket, "Key": "target", "CopySource": {"Bucket": bucket, "Key": "source"}}
    with pytest.raises(ClientError) as refused:
        s3.copy_object(CopySourceIfNoneMatch=etag, **arguments)
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"
    s3.copy_object(CopySourceIfMatch=etag, **arguments)
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == b"x"


def test_a_part_may_be_a_copy(s3, bucket):
    """UploadPartCopy takes whole objects and ranges of them as parts."""
    body = payload(6 * MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="target")["UploadId"]
    source, parts = {"Bucket": bucket, "Key": "source"}, []
    for number, span in [(1, None), (2, f"bytes=10-{MIB}")]:
        extra = {"CopySourceRange": span} if span else {}
        reply = s3.upload_part_copy(
            Bucket=bucket, Key="target", UploadId=upload, PartNumber=number, CopySource=source, **extra
        )
        made = reply["CopyPartResult"]
        parts.append({"PartNumber": number} | {name: made[name] for name in ("ETag", "ChecksumCRC32") if name in made})
    s3.complete_multipart_upload(Bucket=bucket, Key="target", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == body + body[10 : MIB + 1]

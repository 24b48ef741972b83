"""Objects uploaded in parts."""

import hashlib

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from conftest import payload, sha256

pytestmark = pytest.mark.multipart

MIB = 1024 * 1024
PART = 5 * MIB


def upload_parts(s3, bucket, key, parts):
    """Starts an upload and sends the parts, the last first; returns its id and the list for Complete."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    done = []
    for number, body in reversed(list(enumerate(parts, 1))):
        reply = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body)
        done.append({"PartNumber": number, "ETag": reply["ETag"], "ChecksumCRC32": reply["ChecksumCRC32"]})
    return upload, done[::-1]


def etag_of_parts(parts):
    sums = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(sums).hexdigest()}-{len(parts)}"'


def test_100_mib_in_parts_comes_back_whole(s3, bucket, tmp_path):
    """The transfer manager's upload and download of 100 MiB, in parallel parts, keep every byte."""
    body = payload(100 * MIB)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(body)
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=4)
    s3.upload_file(str(source), bucket, "object", Config=config)
    s3.download_file(bucket, "object", str(target), Config=config)
    assert sha256(target.read_bytes()) == sha256(body)
    parts = [body[start : start + 8 * MIB] for start in range(0, len(body), 8 * MIB)]
    assert s3.head_object(Bucket=bucket, Key="object")["ETag"] == etag_of_parts(parts)


def test_parts_join_in_order(s3, bucket):
    """Parts sent in any order are joined by number; ranges across the seam are exact."""
    parts = [payload(PART, 1), payload(PART + 1, 2), payload(17, 3)]
    upload, done = upload_parts(s3, bucket, "object", parts)
    reply = s3.complete_multipart_upload(
        Bucket=bucket, Key="object", UploadId=upload, MultipartUpload={"Parts": done}
    )
    assert reply["ETag"] == etag_of_parts(parts)
    whole = b"".join(parts)
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == whole
    got = s3.get_object(Bucket=bucket, Key="object", Range=f"bytes={PART - 9}-{PART + 9}")
    assert got["Body"].read() == whole[PART - 9 : PART + 10]


def test_nothing_is_visible_before_complete(s3, bucket):
    """An upload in progress is no object; it is listed as an upload with its parts."""
    parts = [payload(PART, 1), payload(10, 2)]
    upload, done = upload_parts(s3, bucket, "object", parts)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    listed = s3.list_parts(Bucket=bucket, Key="object", UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed] == [(1, PART), (2, 10)]
    assert [part["ETag"] for part in listed] == [part["ETag"] for part in done]
    s3.abort_multipart_upload(Bucket=bucket, Key="object", UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with pytest.raises(ClientError) as gone:
        s3.upload_part(Bucket=bucket, Key="object", UploadId=upload, PartNumber=1, Body=b"x")
    assert gone.value.response["Error"]["Code"] == "NoSuchUpload"


def test_a_part_sent_again_replaces_the_first(s3, bucket):
    """The last upload of a number counts."""
    upload, done = upload_parts(s3, bucket, "object", [payload(PART, 1), b"old"])
    again = s3.upload_part(Bucket=bucket, Key="object", UploadId=upload, PartNumber=2, Body=b"new")
    done[1] = {"PartNumber": 2, "ETag": again["ETag"], "ChecksumCRC32": again["ChecksumCRC32"]}
    s3.complete_multipart_upload(Bucket=bucket, Key="object", UploadId=upload, MultipartUpload={"Parts": done})
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == payload(PART, 1) + b"new"


def test_complete_may_be_repeated(s3, bucket):
    """A client that lost the reply asks again and gets the same one, not an error."""
    upload, done = upload_parts(s3, bucket, "object", [b"only"])
    arguments = {"Bucket": bucket, "Key": "object", "UploadId": upload, "MultipartUpload": {"Parts": done}}
    first = s3.complete_multipart_upload(**arguments)
    assert s3.complete_multipart_upload(**arguments)["ETag"] == first["ETag"]


def test_a_wrong_list_of_parts_is_refused(s3, bucket):
    """Wrong ETag, wrong order, unknown part and a part too small each have their code; the upload lives on."""
    parts = [payload(PART, 1), payload(100, 2), payload(100, 3)]
    upload, done = upload_parts(s3, bucket, "object", parts)
    wrong = [
        ([done[0], done[1] | {"ETag": '"' + "0" * 32 + '"'}], "InvalidPart"),
        ([done[1], done[0]], "InvalidPartOrder"),
        ([done[0], done[1] | {"PartNumber": 9}], "InvalidPart"),
        (done, "EntityTooSmall"),
    ]
    for listed, code in wrong:
        with pytest.raises(ClientError) as refused:
            s3.complete_multipart_upload(
                Bucket=bucket, Key="object", UploadId=upload, MultipartUpload={"Parts": listed}
            )
        assert refused.value.response["Error"]["Code"] == code
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    s3.complete_multipart_upload(Bucket=bucket, Key="object", UploadId=upload, MultipartUpload={"Parts": done[:2]})
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == parts[0] + parts[1]


def test_one_part_is_read_alone(s3, bucket):
    """partNumber on GET and HEAD returns that part's bytes and says how many there are."""
    parts = [payload(PART, 1), payload(99, 2)]
    upload, done = upload_parts(s3, bucket, "object", parts)
    s3.complete_multipart_upload(Bucket=bucket, Key="object", UploadId=upload, MultipartUpload={"Parts": done})
    for number, body in enumerate(parts, 1):
        got = s3.get_object(Bucket=bucket, Key="object", PartNumber=number)
        assert got["Body"].read() == body
        assert got["PartsCount"] == 2


def test_attributes_of_parts(s3, bucket):
    """GetObjectAttributes tells size, tag and checksum of the whole, and of each part in pages."""
    parts = [payload(PART, 1), payload(PART, 2), payload(99, 3)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="object", ChecksumAlgorithm="CRC32")["UploadId"]
    done = []
    for number, body in enumerate(parts, 1):
        reply = s3.upload_part(
            Bucket=bucket, Key="object", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm="CRC32"
        )
        done.append({"PartNumber": number, "ETag": reply["ETag"], "ChecksumCRC32": reply["ChecksumCRC32"]})
    s3.complete_multipart_upload(Bucket=bucket, Key="object", UploadId=upload, MultipartUpload={"Parts": done})
    asked = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    told = s3.get_object_attributes(Bucket=bucket, Key="object", ObjectAttributes=asked, MaxParts=2)
    assert (told["ObjectSize"], told["StorageClass"]) == (2 * PART + 99, "STANDARD")
    assert told["ETag"] == etag_of_parts(parts).strip('"')
    assert told["Checksum"]["ChecksumType"] == "COMPOSITE" and told["Checksum"]["ChecksumCRC32"].endswith("-3")
    listed = told["ObjectParts"]
    assert (listed["TotalPartsCount"], listed["IsTruncated"], listed["NextPartNumberMarker"]) == (3, True, 2)
    more = s3.get_object_attributes(Bucket=bucket, Key="object", ObjectAttributes=["ObjectParts"], PartNumberMarker=2)
    listed["Parts"] += more["ObjectParts"]["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, PART), (2, PART), (3, 99)]
    assert [part["ChecksumCRC32"] for part in listed["Parts"]] == [part["ChecksumCRC32"] for part in done]

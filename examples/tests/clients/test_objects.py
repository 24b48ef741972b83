"""Objects through boto3: what goes in comes out, whatever its size and name."""

import base64
import datetime
import hashlib
import zlib

import pytest
from botocore.exceptions import ClientError

from conftest import payload, sha256

pytestmark = pytest.mark.basic

KIB, MIB = 1024, 1024 * 1024
# Around the edges of a block (4 KiB), of what is packed into the log (256 KiB), and well past both.
SIZES = [0, 1, KIB, KIB + 1, 4 * KIB - 1, 4 * KIB, 4 * KIB + 1, 64 * KIB, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, 8 * MIB]

KEYS = [
    "plain", "with space", " leading and trailing ", "a+b", "100%", "%2F", "%", "a//b", "/leading", "//two", "trailing/",
    "a/./b", "a/../b", ".", "..", "tilde~", "quote\"'", "<&>", "a?b=c&d#e", "back\\slash", "comma,;=:@$!*()[]{}|^`",
    "ümlaut", "日本語/キー", "😀", "e\u0301 is not \u00e9", "tab\there", "k" * 1024, "é" * 512,
]


@pytest.mark.parametrize("size", SIZES)
def test_every_size_comes_back_whole(s3, bucket, size):
    """An object of this size is read back with the same SHA-256, length and MD5 ETag."""
    body = payload(size)
    put = s3.put_object(Bucket=bucket, Key="object", Body=body)
    got = s3.get_object(Bucket=bucket, Key="object")
    assert sha256(got["Body"].read()) == sha256(body)
    assert got["ContentLength"] == size
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    head = s3.head_object(Bucket=bucket, Key="object")
    assert (head["ContentLength"], head["ETag"]) == (size, put["ETag"])


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_every_key_is_kept_as_it_is(s3, bucket, key):
    """A key is bytes: it is neither normalised nor decoded twice, on any operation that names it."""
    body = key.encode()
    s3.put_object(Bucket=bucket, Key=key, Body=body)
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == body
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [entry["Key"] for entry in listed] == [key]
    s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_key_of_1025_bytes_is_refused(s3, bucket):
    """One byte past the limit of 1024 is KeyTooLongError, not a shortened key."""
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k" * 1025, Body=b"")
    assert refused.value.response["Error"]["Code"] == "KeyTooLongError"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("size", [100, 300 * KIB + 7, 3 * MIB])
def test_ranges_are_exact(s3, bucket, size):
    """Closed, open, suffix and overlong ranges return exactly the bytes asked for, and say so."""
    body = payload(size)
    s3.put_object(Bucket=bucket, Key="object", Body=body)
    middle = size // 2
    cases = [
        ("bytes=0-0", 0, 1), ("bytes=1-9", 1, 10), (f"bytes={middle}-", middle, size), ("bytes=-7", size - 7, size),
        (f"bytes={middle - 3}-{middle + 4}", middle - 3, middle + 5), (f"bytes=0-{size * 2}", 0, size),
        (f"bytes=-{size * 2}", 0, size), (f"bytes={size - 1}-{size - 1}", size - 1, size),
    ]
    for text, start, end in cases:
        got = s3.get_object(Bucket=bucket, Key="object", Range=text)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206, text
        assert got["ContentRange"] == f"bytes {start}-{end - 1}/{size}", text
        assert got["Body"].read() == body[start:end], text


def test_a_range_past_the_end_is_refused(s3, bucket):
    """A range that begins at or after the end is InvalidRange, on an empty object too."""
    s3.put_object(Bucket=bucket, Key="short", Body=b"abc")
    s3.put_object(Bucket=bucket, Key="empty", Body=b"")
    for key, text in [("short", "bytes=3-"), ("short", "bytes=-0"), ("empty", "bytes=0-8388607")]:
        with pytest.raises(ClientError) as refused:
            s3.get_object(Bucket=bucket, Key=key, Range=text)
        assert refused.value.response["Error"]["Code"] == "InvalidRange", (key, text)
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 416


def test_metadata_and_headers_come_back(s3, bucket):
    """User metadata and the standard headers are kept, and a new version replaces all of them."""
    s3.put_object(
        Bucket=bucket, Key="object", Body=b"x", ContentType="text/x-test", CacheControl="max-age=60",
        ContentDisposition='attachment; filename="a b"', ContentLanguage="de", ContentEncoding="gzip",
        Expires=datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
        Metadata={"colour": "blue", "empty": "", "spaces": "a  b"},
    )
    for got in (s3.head_object(Bucket=bucket, Key="object"), s3.get_object(Bucket=bucket, Key="object")):
        assert got["ContentType"] == "text/x-test"
        assert got["CacheControl"] == "max-age=60"
        assert got["ContentDisposition"] == 'attachment; filename="a b"'
        assert got["ContentLanguage"] == "de"
        assert got["ContentEncoding"] == "gzip"
        assert got["ExpiresString"] == "Wed, 02 Jan 2030 03:04:05 GMT"
        assert got["Metadata"] == {"colour": "blue", "empty": "", "spaces": "a  b"}
    s3.put_object(Bucket=bucket, Key="object", Body=b"y")
    head = s3.head_object(Bucket=bucket, Key="object")
    assert head["Metadata"] == {} and "CacheControl" not in head
    assert head["ContentType"] == "binary/octet-stream"


def test_an_overwrite_is_seen_at_once(s3, bucket):
    """Reads and lists after an acknowledged write see that write, every time."""
    for turn in range(30):
        body = payload(5000 + turn, seed=turn)
        s3.put_object(Bucket=bucket, Key="object", Body=body)
        assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == body
        assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["Size"] == len(body)


def test_what_is_deleted_is_gone(s3, bucket):
    """A deleted object is absent from reads and lists; deleting it again succeeds."""
    s3.put_object(Bucket=bucket, Key="object", Body=b"x")
    for _ in range(2):
        assert s3.delete_object(Bucket=bucket, Key="object")["ResponseMetadata"]["HTTPStatusCode"] == 204
    with pytest.raises(ClientError) as absent:
        s3.get_object(Bucket=bucket, Key="object")
    assert absent.value.response["Error"]["Code"] == "NoSuchKey"
    with pytest.raises(ClientError) as absent:
        s3.head_object(Bucket=bucket, Key="object")
    assert absent.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


def test_many_are_deleted_in_one_request(s3, bucket):
    """DeleteObjects removes present keys and absent ones alike, odd names included, and leaves the rest."""
    keys = [f"k{number}" for number in range(50)] + ["a b", "<&>\"'", "日本語", "a+b%20"]
    for key in [*keys, "kept"]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    wanted = [{"Key": key} for key in [*keys, "absent"]]
    reply = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert sorted(entry["Key"] for entry in reply["Deleted"]) == sorted([*keys, "absent"])
    assert "Errors" not in reply
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["kept"]
    quiet = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "kept"}], "Quiet": True})
    assert "Deleted" not in quiet and "Errors" not in quiet


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256", "SHA512", "MD5"])
def test_a_named_checksum_is_kept(wire, s3, bucket, algorithm):
    """A checksum the client sends is verified, stored, and given back when it is asked for."""
    body = payload(70000)
    value = CHECKSUMS[algorithm](body)
    name = f"x-amz-checksum-{algorithm.lower()}"
    answer = wire.request("PUT", f"/{bucket}/object", headers={name: value}, body=body)
    assert answer.status == 200, answer.body
    head = s3.head_object(Bucket=bucket, Key="object", ChecksumMode="ENABLED")
    assert head[f"Checksum{algorithm}"] == value
    assert f"Checksum{algorithm}" not in s3.head_object(Bucket=bucket, Key="object")


def _reflected_crc(body, polynomial, width):
    """A bit-reflected CRC, written out: the independent check on the table-driven ones."""
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    mask = (1 << width) - 1
    value = mask
    for byte in body:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return base64.b64encode((value ^ mask).to_bytes(width // 8, "big")).decode()


CHECKSUMS = {
    "CRC32": lambda body: base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode(),
    "CRC32C": lambda body: _reflected_crc(body, 0x82F63B78, 32),
    "CRC64NVME": lambda body: _reflected_crc(body, 0x9A6C9329AC4BC9B5, 64),
    "SHA1": lambda body: base64.b64encode(hashlib.sha1(body).digest()).decode(),
    "SHA256": lambda body: base64.b64encode(hashlib.sha256(body).digest()).decode(),
    "SHA512": lambda body: base64.b64encode(hashlib.sha512(body).digest()).decode(),
    "MD5": lambda body: base64.b64encode(hashlib.md5(body).digest()).decode(),
}


def test_the_check_values_of_the_checksums():
    """The sums these tests rely on give the published check values for the text 123456789."""
    text = b"123456789"
    assert base64.b64decode(CHECKSUMS["CRC32"](text)).hex() == "cbf43926"
    assert base64.b64decode(CHECKSUMS["CRC32C"](text)).hex() == "e3069283"
    assert base64.b64decode(CHECKSUMS["CRC64NVME"](text)).hex() == "ae8b14860a799888"


def test_buckets_come_and_go(s3, bucket):
    """A bucket is listed once made, cannot go while it holds an object, and is gone after."""
    def names():
        return [entry["Name"] for entry in s3.list_buckets()["Buckets"]]

    other = f"{bucket}-other"
    assert s3.create_bucket(Bucket=other)["Location"] == f"/{other}"
    assert {bucket, other} <= set(names())
    s3.head_bucket(Bucket=other)
    s3.delete_bucket(Bucket=other)
    assert other not in names()
    with pytest.raises(ClientError) as absent:
        s3.head_bucket(Bucket=other)
    assert absent.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    s3.head_bucket(Bucket=bucket)
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] in (None, "us-east-1")
    s3.put_object(Bucket=bucket, Key="object", Body=b"x")
    with pytest.raises(ClientError) as refused:
        s3.delete_bucket(Bucket=bucket)
    assert refused.value.response["Error"]["Code"] == "BucketNotEmpty"
    for operation in (s3.get_object, s3.put_object):
        with pytest.raises(ClientError) as absent:
            operation(Bucket=bucket + "-absent", Key="object")
        assert absent.value.response["Error"]["Code"] == "NoSuchBucket"


def test_a_bucket_name_against_the_rules_is_refused(wire):
    """Capital letters, an underscore and too short a name are InvalidBucketName."""
    for name in ("Capital", "under_score", "ab", "-dash", "a..b", "192.168.1.1"):
        answer = wire.request("PUT", f"/{name}")
        assert (answer.status, answer.code()) == (400, "InvalidBucketName"), name

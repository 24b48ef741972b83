"""Conditional requests: the reply depends on what is there at the moment of the request."""

import datetime
import threading

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.conditions

WRONG = '"00000000000000000000000000000000"'
DAY = datetime.timedelta(days=1)


def status(operation, **arguments):
    """The status code of a call, and its S3 error code if it has one."""
    try:
        return operation(**arguments)["ResponseMetadata"]["HTTPStatusCode"], None
    except ClientError as error:
        response = error.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def test_reads_depend_on_the_etag(s3, bucket):
    """If-Match and If-None-Match on GET and HEAD: 200, 304 or 412."""
    etag = s3.put_object(Bucket=bucket, Key="object", Body=b"x")["ETag"]
    for operation in (s3.get_object, s3.head_object):
        def code(**conditions):
            return status(operation, Bucket=bucket, Key="object", **conditions)[0]

        assert code(IfMatch=etag) == 200
        assert code(IfMatch="*") == 200
        assert code(IfMatch=WRONG) == 412
        assert code(IfNoneMatch=WRONG) == 200
        assert code(IfNoneMatch=etag) == 304
        assert code(IfNoneMatch="*") == 304


def test_reads_depend_on_the_time(s3, bucket):
    """If-Modified-Since and If-Unmodified-Since, and the ETag conditions that outrank them."""
    put = s3.put_object(Bucket=bucket, Key="object", Body=b"x")
    when = s3.head_object(Bucket=bucket, Key="object")["LastModified"]

    def code(**conditions):
        return status(s3.get_object, Bucket=bucket, Key="object", **conditions)[0]

    assert code(IfModifiedSince=when - DAY) == 200
    assert code(IfModifiedSince=when) == 304
    assert code(IfUnmodifiedSince=when) == 200
    assert code(IfUnmodifiedSince=when - DAY) == 412
    assert code(IfMatch=put["ETag"], IfUnmodifiedSince=when - DAY) == 200
    assert code(IfNoneMatch=put["ETag"], IfModifiedSince=when - DAY) == 304
    assert code(IfNoneMatch=WRONG, IfModifiedSince=when) == 200


def test_an_object_is_made_only_once(s3, bucket):
    """If-None-Match: * writes where nothing is, and leaves alone what is there."""
    arguments = {"Bucket": bucket, "Key": "object", "IfNoneMatch": "*"}
    assert status(s3.put_object, Body=b"first", **arguments) == (200, None)
    assert status(s3.put_object, Body=b"second", **arguments) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == b"first"
    s3.delete_object(Bucket=bucket, Key="object")
    assert status(s3.put_object, Body=b"third", **arguments) == (200, None)


def test_an_object_is_replaced_only_as_known(s3, bucket):
    """If-Match replaces the version it names, refuses another, and is NoSuchKey where nothing is."""
    arguments = {"Bucket": bucket, "Key": "object"}
    assert status(s3.put_object, Body=b"x", IfMatch=WRONG, **arguments) == (404, "NoSuchKey")
    first = s3.put_object(Body=b"first", **arguments)["ETag"]
    assert status(s3.put_object, Body=b"x", IfMatch=WRONG, **arguments) == (412, "PreconditionFailed")
    assert status(s3.put_object, Body=b"second", IfMatch=first, **arguments) == (200, None)
    assert status(s3.put_object, Body=b"third", IfMatch=first, **arguments) == (412, "PreconditionFailed")
    assert s3.get_object(**arguments)["Body"].read() == b"second"


def test_of_many_makers_one_wins(s3, bucket):
    """Of concurrent If-None-Match: * writes exactly one succeeds, and its bytes are the ones that stay."""
    for turn in range(5):
        key, codes = f"object-{turn}", {}
        begin = threading.Barrier(8)

        def make(number):
            begin.wait()
            body = f"{number}".encode() * 5000
            codes[number] = status(s3.put_object, Bucket=bucket, Key=key, Body=body, IfNoneMatch="*")[0]

        threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [number for number, code in codes.items() if code == 200]
        assert len(winners) == 1 and set(codes.values()) <= {200, 412, 409}, codes
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == f"{winners[0]}".encode() * 5000


def test_an_object_is_deleted_only_as_known(s3, bucket):
    """If-Match on DELETE refuses another version and removes the one it names."""
    etag = s3.put_object(Bucket=bucket, Key="object", Body=b"x")["ETag"]
    arguments = {"Bucket": bucket, "Key": "object"}
    assert status(s3.delete_object, IfMatch=WRONG, **arguments) == (412, "PreconditionFailed")
    assert s3.get_object(**arguments)["Body"].read() == b"x"
    assert status(s3.delete_object, IfMatch=etag, **arguments) == (204, None)
    assert status(s3.head_object, **arguments)[0] == 404

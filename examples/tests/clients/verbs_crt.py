"""Every verb through boto3 with awscrt, which signs and sums in C, and moves files by a client of its own.

With awscrt there is CRC64NVME, which boto3 alone can not compute.
"""

import os
import sys
import tempfile

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from s3transfer.crt import (
    BotocoreCRTCredentialsWrapper, BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client,
)

from attempts import refused, report
from payloads import payload

MIB = 1024 * 1024
PATH_STYLE = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
endpoint, bucket = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, config=PATH_STYLE)
body = payload(300_000)


def put():
    for size in (0, 1, 5000, 300_000):
        reply = s3.put_object(Bucket=bucket, Key=f"sizes/{size}", Body=payload(size), ChecksumAlgorithm="CRC64NVME")
        assert reply["ChecksumType"] == "FULL_OBJECT" and reply["ChecksumCRC64NVME"]
    for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256", "SHA512", "XXHASH64", "XXHASH3", "XXHASH128"):
        reply = s3.put_object(Bucket=bucket, Key="a b+c/é", Body=body, ChecksumAlgorithm=algorithm)
        assert reply[f"Checksum{algorithm}"], algorithm
    refused(
        lambda: s3.put_object(Bucket=bucket, Key="wrong", Body=b"x", ChecksumCRC64NVME="AAAAAAAAAAA="),
        ClientError, "BadDigest",
    )


def list_():
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    assert keys == ["a b+c/é", *sorted(f"sizes/{size}" for size in (0, 1, 5000, 300_000))]


def get():
    got = s3.get_object(Bucket=bucket, Key="sizes/300000", ChecksumMode="ENABLED")
    assert got["ChecksumCRC64NVME"] and got["Body"].read() == body


def range_():
    got = s3.get_object(Bucket=bucket, Key="a b+c/é", Range="bytes=7-100006")
    assert got["Body"].read() == body[7:100_007]


def multipart():
    """Files go by the CRT's own S3 client, which sends parts side by side; the AWS CLI of version 2 has it too."""
    large = payload(12 * MIB + 1000)
    session = botocore.session.get_session()
    serializer = BotocoreCRTRequestSerializer(session, {"endpoint_url": endpoint, "config": PATH_STYLE})
    credentials = BotocoreCRTCredentialsWrapper(session.get_credentials()).to_crt_credentials_provider()
    client = create_s3_crt_client(
        region=os.environ["AWS_DEFAULT_REGION"], crt_credentials_provider=credentials, part_size=6 * MIB,
        use_ssl=endpoint.startswith("https"), verify=os.environ.get("AWS_CA_BUNDLE"), target_throughput=100 * MIB,
    )
    with tempfile.TemporaryDirectory() as directory:
        source, target = os.path.join(directory, "source"), os.path.join(directory, "target")
        with open(source, "wb") as file:
            file.write(large)
        # The future of a download has its result before the file has its name, which a callback gives it in another thread
        # (awscrt's S3Request: "Future will set before on_done invoked"). The manager's end waits for the callbacks.
        with CRTTransferManager(client, serializer) as transfers:
            transfers.upload(source, bucket, "large").result()
            transfers.download(bucket, "large", target).result()
        with open(target, "rb") as file:
            assert file.read() == large
    attributes = s3.get_object_attributes(Bucket=bucket, Key="large", ObjectAttributes=["Checksum", "ObjectParts"])
    assert attributes["ObjectParts"]["TotalPartsCount"] == 3, attributes


def copy():
    source = {"Bucket": bucket, "Key": "sizes/300000"}
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, ChecksumAlgorithm="CRC64NVME")
    assert copied["CopyObjectResult"]["ChecksumCRC64NVME"]
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == body


def delete():
    s3.delete_object(Bucket=bucket, Key="copy")
    keys = [{"Key": f"sizes/{size}"} for size in (0, 1, 5000)]
    reply = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys}, ChecksumAlgorithm="CRC64NVME")
    assert len(reply["Deleted"]) == 3 and "Errors" not in reply


def conditional():
    first = s3.put_object(Bucket=bucket, Key="once", Body=b"first", IfNoneMatch="*")["ETag"]
    refused(
        lambda: s3.put_object(Bucket=bucket, Key="once", Body=b"second", IfNoneMatch="*"), ClientError,
        "PreconditionFailed",
    )
    s3.put_object(Bucket=bucket, Key="once", Body=b"third", IfMatch=first)
    refused(lambda: s3.get_object(Bucket=bucket, Key="once", IfMatch=first), ClientError, "PreconditionFailed")


report({
    "put": put, "list": list_, "get": get, "range": range_, "multipart": multipart, "copy": copy, "delete": delete,
    "conditional": conditional,
})

"""Versions: what a bucket keeps, how each version is reached, and what stands where a key was deleted."""

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.versions


def enable(s3, bucket, status="Enabled"):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == status


def refused(operation, **arguments):
    """Status, code and headers of a refusal."""
    with pytest.raises(ClientError) as error:
        operation(**arguments)
    response = error.value.response
    metadata = response["ResponseMetadata"]
    return metadata["HTTPStatusCode"], response["Error"]["Code"], metadata["HTTPHeaders"]


def body(s3, bucket, key, **arguments):
    return s3.get_object(Bucket=bucket, Key=key, **arguments)["Body"].read()


def lines(page):
    """The page's versions and markers: key, identifier, whether it is the latest."""
    found = page.get("Versions", []) + page.get("DeleteMarkers", [])
    return {(line["Key"], line["VersionId"], line["IsLatest"]) for line in found}


def test_a_bucket_tells_what_it_keeps(s3, wire, bucket):
    """Nothing before it was told to; then one of two states, and nothing else is taken for one."""
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert "VersionId" not in put and "VersionId" not in s3.head_object(Bucket=bucket, Key="k")
    enable(s3, bucket)
    enable(s3, bucket, "Suspended")
    enable(s3, bucket)
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={})[:2] == (
        400, "IllegalVersioningConfigurationException")
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration={"Status": "On"})[:2] == (
        400, "MalformedXML")
    missing = {"Bucket": "no-such-bucket-here", "VersioningConfiguration": {"Status": "Enabled"}}
    assert refused(s3.put_bucket_versioning, **missing)[1] == "NoSuchBucket"


def test_each_put_adds_a_version(s3, bucket):
    """What is replaced stays under its identifier; what was there before is called null."""
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    enable(s3, bucket)
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"second")["VersionId"]
    assert len({first, second, "null"}) == 3
    assert body(s3, bucket, "k") == b"second"
    for version, expected in [("null", b"before"), (first, b"first"), (second, b"second")]:
        read = s3.get_object(Bucket=bucket, Key="k", VersionId=version)
        assert (read["VersionId"], read["Body"].read()) == (version, expected)
        assert s3.head_object(Bucket=bucket, Key="k", VersionId=version)["ContentLength"] == len(expected)
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first, Range="bytes=1-2")["Body"].read() == b"ir"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", VersionId=first, ObjectAttributes=["ObjectSize"])
    assert (attributes["VersionId"], attributes["ObjectSize"]) == (first, 5)
    # Neighbours have neighbouring identifiers: one that is neither of the two.
    unknown = next(first[:-1] + digit for digit in "012" if first[:-1] + digit not in (first, second))
    assert refused(s3.get_object, Bucket=bucket, Key="k", VersionId=unknown)[:2] == (404, "NoSuchVersion")
    assert refused(s3.get_object, Bucket=bucket, Key="k", VersionId="none")[:2] == (400, "InvalidArgument")


def test_a_delete_hides_the_key(s3, bucket):
    """A marker stands for the key until it is deleted itself; reads say that it is there."""
    enable(s3, bucket)
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["VersionId"]
    deleted = s3.delete_object(Bucket=bucket, Key="k")
    marker = deleted["VersionId"]
    assert deleted["DeleteMarker"] is True and marker != version
    for operation in (s3.get_object, s3.head_object):
        status, code, headers = refused(operation, Bucket=bucket, Key="k")
        assert (status, code) in [(404, "NoSuchKey"), (404, "404")]
        assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)
        status, code, headers = refused(operation, Bucket=bucket, Key="k", VersionId=marker)
        assert (status, code) in [(405, "MethodNotAllowed"), (405, "405")]
        assert headers["x-amz-delete-marker"] == "true" and headers["allow"] == "DELETE"
        assert headers["last-modified"].endswith("GMT")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert body(s3, bucket, "k", VersionId=version) == b"x"
    assert refused(s3.delete_bucket, Bucket=bucket)[1] == "BucketNotEmpty"
    undone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker)
    assert body(s3, bucket, "k") == b"x"
    gone = s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    assert "DeleteMarker" not in gone and gone["VersionId"] == version
    assert refused(s3.get_object, Bucket=bucket, Key="k")[1] == "NoSuchKey"
    # To delete what is not there is no error.
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)


def test_suspended_replaces_the_null_version(s3, bucket):
    """What was kept stays; puts and deletes replace the one version called null."""
    enable(s3, bucket)
    kept = s3.put_object(Bucket=bucket, Key="k", Body=b"kept")["VersionId"]
    enable(s3, bucket, "Suspended")
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    s3.put_object(Bucket=bucket, Key="k", Body=b"2")
    assert lines(s3.list_object_versions(Bucket=bucket)) == {("k", "null", True), ("k", kept, False)}
    deleted = s3.delete_object(Bucket=bucket, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    page = s3.list_object_versions(Bucket=bucket)
    assert [marker["VersionId"] for marker in page["DeleteMarkers"]] == ["null"]
    assert [version["VersionId"] for version in page["Versions"]] == [kept]
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert body(s3, bucket, "k") == b"kept"


def test_versions_are_listed_in_pages(s3, bucket):
    """Keys in byte order, the newest of each first, in pages of any size; prefixes count as one line."""
    s3.put_object(Bucket=bucket, Key="b", Body=b"null")
    enable(s3, bucket)
    expected = []
    for key in ("a", "b", "dir/x", "z"):
        made = [s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"] for _ in range(3)]
        made.append(s3.delete_object(Bucket=bucket, Key=key)["VersionId"])
        expected += [(key, version) for version in reversed(made)]
        if key == "b":
            expected.append(("b", "null"))
    for size in (1, 2, 3, 1000):
        found, arguments = [], {}
        while True:
            page = s3.list_object_versions(Bucket=bucket, MaxKeys=size, **arguments)
            # boto3 tells versions and markers apart, but not in which order they came.
            assert len(lines(page)) <= size
            found.append(lines(page))
            if not page["IsTruncated"]:
                break
            arguments = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        pages = [expected[at:at + size] for at in range(0, len(expected), size)]
        assert [{(key, version) for key, version, _ in page} for page in found] == [set(page) for page in pages]
        latest = {key for page in found for key, _, is_latest in page if is_latest}
        assert latest == {"a", "b", "dir/x", "z"}
    page = s3.list_object_versions(Bucket=bucket, Delimiter="/", Prefix="")
    assert [prefix["Prefix"] for prefix in page["CommonPrefixes"]] == ["dir/"]
    behind = s3.list_object_versions(Bucket=bucket, KeyMarker="b")
    assert {key for key, _, _ in lines(behind)} == {"dir/x", "z"}
    behind = s3.list_object_versions(Bucket=bucket, KeyMarker="b", VersionIdMarker="null")
    assert {key for key, _, _ in lines(behind)} == {"dir/x", "z"}
    assert refused(s3.list_object_versions, Bucket=bucket, VersionIdMarker="null")[1] == "InvalidArgument"


def test_many_are_deleted_at_once(s3, bucket):
    """One answer for each key: the marker that was made or removed, the version that went."""
    enable(s3, bucket)
    versions = {key: s3.put_object(Bucket=bucket, Key=key, Body=b"x")["VersionId"] for key in ("a", "b")}
    marker = s3.delete_object(Bucket=bucket, Key="c")["VersionId"]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [
        {"Key": "a"}, {"Key": "b", "VersionId": versions["b"]}, {"Key": "c", "VersionId": marker},
        {"Key": "d", "VersionId": "none"},
    ]})
    a, b, c = answer["Deleted"]
    assert a["DeleteMarker"] and a["DeleteMarkerVersionId"] not in (versions["a"], marker) and "VersionId" not in a
    assert b == {"Key": "b", "VersionId": versions["b"]}
    assert c == {"Key": "c", "VersionId": marker, "DeleteMarker": True, "DeleteMarkerVersionId": marker}
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("d", "NoSuchVersion")]
    keys = [{"Key": f"k/{number:04}"} for number in range(1000)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    assert [line["Key"] for line in answer["Deleted"]] == [key["Key"] for key in keys]
    found = [line for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix="k/")
             for line in page["DeleteMarkers"]]
    assert len(found) == 1000


def test_copies_take_and_make_versions(s3, bucket):
    """A copy of an old version brings it back; the reply names both; a delete marker is no source."""
    enable(s3, bucket)
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"first")["VersionId"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"second")
    source = {"Bucket": bucket, "Key": "k", "VersionId": first}
    copied = s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert copied["CopySourceVersionId"] == first and copied["VersionId"] != first
    assert body(s3, bucket, "k") == b"first"
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]
    named = {"Bucket": bucket, "Key": "other", "CopySource": source | {"VersionId": marker}}
    assert refused(s3.copy_object, **named)[:2] == (400, "InvalidRequest")
    current = named | {"CopySource": {"Bucket": bucket, "Key": "k"}}
    assert refused(s3.copy_object, **current)[:2] == (404, "NoSuchKey")

    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part_copy(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, CopySource=source)
    assert part["CopySourceVersionId"] == first
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["CopyPartResult"]["ETag"]}]}
    made = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload=parts)
    assert body(s3, bucket, "k", VersionId=made["VersionId"]) == b"first"


def test_a_marker_is_no_object_to_conditions(s3, bucket):
    """If-None-Match: * writes where only a marker stands; If-Match finds nothing there."""
    enable(s3, bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")[0] == 412
    s3.delete_object(Bucket=bucket, Key="k")
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"y", IfMatch='"0"')[0] == 404
    s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")
    assert body(s3, bucket, "k") == b"y"

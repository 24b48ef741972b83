"""Lists: byte order, prefixes, delimiters and pages, in both versions of the operation."""

import random

import pytest

pytestmark = pytest.mark.basic

NAMES = sorted(
    [f"a/{number:03}" for number in range(25)] + ["a", "a!", "b/c/d", "b/c/e", "b/f", "B", "~", "z z", "é", "日本", "c//d"],
    key=lambda name: name.encode(),
)


@pytest.fixture
def filled(s3, bucket):
    shuffled = NAMES[:]
    random.Random(7).shuffle(shuffled)
    for name in shuffled:
        s3.put_object(Bucket=bucket, Key=name, Body=name.encode())
    return bucket


def expected(prefix="", delimiter=None):
    """What a list must hold, worked out the slow way: keys, and common prefixes, in byte order."""
    keys, prefixes = [], []
    for name in NAMES:
        if not name.startswith(prefix):
            continue
        rest = name[len(prefix):]
        if delimiter and delimiter in rest:
            common = prefix + rest[: rest.index(delimiter) + len(delimiter)]
            if common not in prefixes:
                prefixes.append(common)
        else:
            keys.append(name)
    return keys, prefixes


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page", [1, 2, 7, 1000])
@pytest.mark.parametrize("prefix,delimiter", [("", None), ("", "/"), ("b/", "/"), ("a", None), ("", "a/0"), ("nothing", "/")])
def test_pages_put_together_are_the_whole_list(s3, filled, operation, page, prefix, delimiter):
    """Whatever the size of a page, no key is lost, repeated or out of order, and prefixes are rolled up."""
    arguments = {"Bucket": filled, "Prefix": prefix, "PaginationConfig": {"PageSize": page}}
    if delimiter:
        arguments["Delimiter"] = delimiter
    keys, prefixes = [], []
    for reply in s3.get_paginator(operation).paginate(**arguments):
        contents, common = reply.get("Contents", []), reply.get("CommonPrefixes", [])
        assert len(contents) + len(common) <= page
        keys += [entry["Key"] for entry in contents]
        prefixes += [entry["Prefix"] for entry in common]
    assert (keys, prefixes) == expected(prefix, delimiter)


def test_an_entry_tells_size_and_etag(s3, filled):
    """Size, ETag and time of each entry are those of the object."""
    for entry in s3.list_objects_v2(Bucket=filled)["Contents"]:
        head = s3.head_object(Bucket=filled, Key=entry["Key"])
        assert (entry["Size"], entry["ETag"]) == (head["ContentLength"], head["ETag"])
        assert abs((entry["LastModified"] - head["LastModified"]).total_seconds()) < 1
        assert entry["StorageClass"] == "STANDARD"


def test_a_list_starts_after_any_key(s3, filled):
    """StartAfter and Marker need not name a key that is there, and the key named is left out."""
    for start in ["", "a", "a/010", "a/010x", "zzz", "\u00ff"]:
        after = [name for name in NAMES if name.encode() > start.encode()]
        reply = s3.list_objects_v2(Bucket=filled, StartAfter=start)
        assert [entry["Key"] for entry in reply.get("Contents", [])] == after
        reply = s3.list_objects(Bucket=filled, Marker=start)
        assert [entry["Key"] for entry in reply.get("Contents", [])] == after


def test_a_page_says_whether_more_follows(s3, filled):
    """IsTruncated, KeyCount and the token agree with what was returned; a page of none is empty."""
    reply = s3.list_objects_v2(Bucket=filled, MaxKeys=3)
    assert reply["IsTruncated"] and reply["KeyCount"] == 3 and reply["NextContinuationToken"]
    reply = s3.list_objects_v2(Bucket=filled, MaxKeys=len(NAMES))
    assert not reply["IsTruncated"] and "NextContinuationToken" not in reply
    reply = s3.list_objects_v2(Bucket=filled, MaxKeys=0)
    assert reply["KeyCount"] == 0 and not reply["IsTruncated"]


def test_a_key_xml_cannot_hold_is_listed(s3, bucket):
    """With encoding-type=url, which boto3 always asks for, even control characters come back."""
    keys = ["bell\x07", "line\nfeed", "return\rkey"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert sorted(entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]) == sorted(keys)

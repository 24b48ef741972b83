"""The AWS command line."""

import json

import pytest

from commands import program, run, tree
from conftest import payload, sha256

MIB = 1024 * 1024


@pytest.fixture
def aws(client_environment):
    path = program("aws")
    return lambda *arguments, expect=0: run([path, *arguments], client_environment, expect)


@pytest.fixture
def folder(tmp_path):
    """Small files with names that need care."""
    source = tmp_path / "source"
    for name, size in [("empty", 0), ("one", 1), ("with space", 5000), ("deep/er/file", 70000), ("ünï/cödé", 10), ("plus+%", 3)]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload(size))
    return source


@pytest.mark.awscli
def test_files_are_copied_both_ways(aws, bucket, tmp_path):
    """`aws s3 cp` there and back keeps a file of each size, and `rm` removes it."""
    for size in (0, 1, 256 * 1024 + 1):
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(payload(size))
        aws("s3", "cp", source, f"s3://{bucket}/a file")
        aws("s3", "cp", f"s3://{bucket}/a file", target)
        assert sha256(target.read_bytes()) == sha256(payload(size))
    aws("s3", "rm", f"s3://{bucket}/a file")
    aws("s3", "cp", f"s3://{bucket}/a file", target, expect=1)


@pytest.mark.awscli
def test_a_folder_is_synchronised_both_ways(aws, bucket, folder, tmp_path):
    """`aws s3 sync` there and back gives the same tree, and a second run sends nothing."""
    aws("s3", "sync", folder, f"s3://{bucket}/folder")
    assert aws("s3", "sync", folder, f"s3://{bucket}/folder").strip() == ""
    aws("s3", "sync", f"s3://{bucket}/folder", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)
    listed = aws("s3", "ls", "--recursive", f"s3://{bucket}/")
    assert len(listed.splitlines()) == len(tree(folder))
    aws("s3", "rm", "--recursive", f"s3://{bucket}/folder")
    assert aws("s3", "ls", "--recursive", f"s3://{bucket}/") == ""


@pytest.mark.awscli
def test_the_api_commands_work(aws, bucket, tmp_path):
    """`aws s3api` shows the head of an object and the buckets there are."""
    source = tmp_path / "source"
    source.write_bytes(b"hello")
    aws("s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", source, "--metadata", "a=b")
    head = json.loads(aws("s3api", "head-object", "--bucket", bucket, "--key", "k"))
    assert (head["ContentLength"], head["Metadata"]) == (5, {"a": "b"})
    buckets = json.loads(aws("s3api", "list-buckets"))["Buckets"]
    assert bucket in [entry["Name"] for entry in buckets]


@pytest.mark.awscli
def test_a_bucket_is_made_and_removed(aws, bucket):
    """`aws s3 mb` and `rb` make and remove a bucket."""
    aws("s3", "mb", f"s3://{bucket}-second")
    assert f"{bucket}-second" in aws("s3", "ls")
    aws("s3", "rb", f"s3://{bucket}-second")
    assert f"{bucket}-second" not in aws("s3", "ls")


@pytest.mark.awscli
@pytest.mark.multipart
def test_a_large_file_is_copied_both_ways(aws, bucket, tmp_path):
    """A file above the threshold goes up in parts and comes back whole."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(payload(16 * MIB + 1000))
    aws("s3", "cp", source, f"s3://{bucket}/large")
    aws("s3", "cp", f"s3://{bucket}/large", target)
    assert sha256(target.read_bytes()) == sha256(payload(16 * MIB + 1000))


@pytest.mark.awscli
@pytest.mark.copy
def test_an_object_is_moved(aws, bucket, tmp_path):
    """`aws s3 mv` between keys copies on the server and removes the source."""
    source = tmp_path / "source"
    source.write_bytes(payload(9000))
    aws("s3", "cp", source, f"s3://{bucket}/a")
    aws("s3", "mv", f"s3://{bucket}/a", f"s3://{bucket}/b c")
    listed = aws("s3", "ls", f"s3://{bucket}/")
    assert "b c" in listed and listed.count("\n") == 1


@pytest.mark.awscli
@pytest.mark.conditions
def test_reads_and_writes_are_conditional(aws, bucket, tmp_path):
    """`aws s3api` makes an object only once, replaces it only as known, and reads a range of it only if it changed."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(payload(5000))
    put = ("s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", source)
    get = ("s3api", "get-object", "--bucket", bucket, "--key", "k")
    etag = json.loads(aws(*put, "--if-none-match", "*"))["ETag"]
    aws(*put, "--if-none-match", "*", expect=1)
    aws(*get, "--range", "bytes=7-106", target)
    assert target.read_bytes() == payload(5000)[7:107]
    aws(*get, "--if-none-match", etag, target, expect=1)
    source.write_bytes(b"second")
    aws(*put, "--if-match", etag)
    aws(*put, "--if-match", etag, expect=1)
    aws(*get, target)
    assert target.read_bytes() == b"second"

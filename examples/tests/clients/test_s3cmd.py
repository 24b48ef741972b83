"""The s3cmd program: the region called US, unquoted ETags, probes for operations that may be missing."""

from urllib.parse import urlsplit

import pytest

from commands import program, run, tree
from conftest import ACCESS_KEY, SECRET_KEY, payload

pytestmark = pytest.mark.s3cmd

MIB = 1024 * 1024


@pytest.fixture
def s3cmd(client_environment, endpoint, authority, tmp_path):
    path, parts = program("s3cmd"), urlsplit(endpoint)
    host, is_safe = parts.netloc, parts.scheme == "https"
    trusted = f"ca_certs_file = {authority[0]}\n" if is_safe else ""
    settings = tmp_path / "s3cfg"
    settings.write_text(
        f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\nhost_base = {host}\n"
        f"host_bucket = {host}\nuse_https = {is_safe}\nsignature_v2 = False\nmax_retries = 1\n{trusted}"
    )
    return lambda *arguments, expect=0: run([path, "-c", settings, "--no-progress", *arguments], client_environment, expect)


def test_a_file_is_put_shown_read_and_deleted(s3cmd, bucket, tmp_path):
    """put, info, ls, get and del on files of several sizes; get compares the MD5 with the ETag."""
    for size in (0, 1, 5000, 300_000):
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(payload(size))
        s3cmd("put", source, f"s3://{bucket}/a file+é")
        assert f"{size}" in s3cmd("info", f"s3://{bucket}/a file+é")
        s3cmd("get", "--force", f"s3://{bucket}/a file+é", target)
        assert target.read_bytes() == payload(size)
    assert "a file+é" in s3cmd("ls", f"s3://{bucket}/")
    s3cmd("del", f"s3://{bucket}/a file+é")
    assert s3cmd("ls", f"s3://{bucket}/").strip() == ""


def test_a_folder_is_synchronised(s3cmd, bucket, tmp_path):
    """sync there and back gives the same tree; del --recursive empties the bucket."""
    source = tmp_path / "source"
    for name, size in [("one", 1), ("with space", 5000), ("deep/er", 70_000)]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload(size))
    s3cmd("sync", f"{source}/", f"s3://{bucket}/folder/")
    s3cmd("sync", f"s3://{bucket}/folder/", f"{tmp_path / 'back'}/")
    assert tree(tmp_path / "back") == tree(source)
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}/")
    assert s3cmd("ls", "--recursive", f"s3://{bucket}/").strip() == ""


@pytest.mark.multipart
def test_a_large_file_goes_in_parts(s3cmd, bucket, tmp_path):
    """A file above the size of a part is uploaded in parts."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(payload(10 * MIB + 1000))
    s3cmd("put", "--multipart-chunk-size-mb=5", source, f"s3://{bucket}/large")
    s3cmd("get", f"s3://{bucket}/large", target)
    assert target.read_bytes() == payload(10 * MIB + 1000)


@pytest.mark.copy
def test_an_object_is_copied_and_moved(s3cmd, bucket, tmp_path):
    """cp and mv work on the server."""
    (tmp_path / "source").write_bytes(payload(9000))
    s3cmd("put", tmp_path / "source", f"s3://{bucket}/a")
    s3cmd("cp", f"s3://{bucket}/a", f"s3://{bucket}/b")
    s3cmd("mv", f"s3://{bucket}/b", f"s3://{bucket}/c")
    names = s3cmd("ls", f"s3://{bucket}/")
    assert "/a" in names and "/c" in names and "/b" not in names


def test_a_download_is_continued(s3cmd, bucket, tmp_path):
    """get --continue asks for the rest of a file by its range. s3cmd has no conditional requests."""
    (tmp_path / "source").write_bytes(payload(300_000))
    s3cmd("put", tmp_path / "source", f"s3://{bucket}/object")
    (tmp_path / "target").write_bytes(payload(300_000)[:100_000])
    s3cmd("get", "--continue", f"s3://{bucket}/object", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == payload(300_000)

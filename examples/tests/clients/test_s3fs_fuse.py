"""s3fs, a file system over S3 for programs that know of files only: metadata in headers, copies onto themselves.

It has no conditional requests.
"""

import os
import subprocess
import time

import pytest

from commands import program, run
from conftest import ACCESS_KEY, SECRET_KEY, payload
from wire import REGION

pytestmark = pytest.mark.s3fs

MIB = 1024 * 1024
MOUNT_SECONDS = 30


@pytest.fixture
def mount(client_environment, endpoint, bucket, tmp_path):
    """The bucket as a directory, for as long as the test takes."""
    path = program("s3fs")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("s3fs: this user may not open /dev/fuse")
    directory, secrets, log = tmp_path / "mount", tmp_path / "passwd", tmp_path / "log"
    directory.mkdir()
    secrets.write_text(f"{ACCESS_KEY}:{SECRET_KEY}\n")
    secrets.chmod(0o600)
    # "retries" counts attempts. s3fs looks into CURL_CA_BUNDLE when a certificate was refused, and then tries again
    # (S3fsCurl::RequestPerform, CURLE_SSL_CACERT): over HTTPS the first attempt of a process finds the authority.
    attempts = 2 if endpoint.startswith("https://") else 1
    options = {
        "url": endpoint, "endpoint": REGION, "passwd_file": secrets, "multipart_size": 5, "retries": attempts,
        "tmpdir": tmp_path, "stat_cache_expire": 1, "singlepart_copy_limit": 5, "max_stat_cache_size": 0,
    }
    words = ",".join([f"{name}={value}" for name, value in options.items()] + ["use_path_request_style", "sigv4"])
    with log.open("wb") as output:
        server = subprocess.Popen(
            [path, bucket, str(directory), "-f", "-o", words], env=client_environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=output,
        )
    try:
        deadline = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(directory):
            if server.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")
                if "fuse: mount failed" in said or "fuse: device not found" in said:
                    pytest.skip(f"s3fs: this machine mounts no FUSE file systems: {said.strip()}")
                pytest.fail(f"s3fs did not mount: {said}")
            time.sleep(0.05)
        yield directory
    finally:
        if os.path.ismount(directory):
            run(["fusermount", "-u", directory], client_environment)
        if server.poll() is None:
            server.terminate()
        server.wait(timeout=30)


def test_files_are_written_read_and_removed(mount, s3, bucket):
    """Files and directories are objects, and what S3 clients put are files."""
    (mount / "deep").mkdir()
    for size in (0, 1, 5000, 300_000):
        (mount / "deep" / f"{size} é").write_bytes(payload(size))
    for size in (0, 1, 5000, 300_000):
        assert (mount / "deep" / f"{size} é").read_bytes() == payload(size)
        assert s3.get_object(Bucket=bucket, Key=f"deep/{size} é")["Body"].read() == payload(size)
    assert sorted(os.listdir(mount / "deep")) == sorted(f"{size} é" for size in (0, 1, 5000, 300_000))
    s3.put_object(Bucket=bucket, Key="from outside", Body=b"hello")
    assert (mount / "from outside").read_bytes() == b"hello"
    (mount / "from outside").unlink()
    assert "from outside" not in os.listdir(mount)
    assert s3.list_objects_v2(Bucket=bucket, Prefix="from outside")["KeyCount"] == 0


@pytest.mark.copy
def test_renames_and_modes_are_copies(mount, s3, bucket):
    """A rename copies on the server, and so does a change of mode, onto the object itself."""
    (mount / "a b").write_bytes(payload(9000))
    (mount / "a b").rename(mount / "c+d")
    (mount / "c+d").chmod(0o600)
    assert (mount / "c+d").read_bytes() == payload(9000)
    assert (mount / "c+d").stat().st_mode & 0o777 == 0o600
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["c+d"]


@pytest.mark.multipart
def test_large_files_go_in_parts(mount, s3, bucket):
    """A large file goes in parts; a change in its middle makes the parts around it copies; reads elsewhere are ranges."""
    body = bytearray(payload(22 * MIB))
    (mount / "large").write_bytes(body)
    assert s3.head_object(Bucket=bucket, Key="large")["ETag"].strip('"').endswith("-4")
    with (mount / "large").open("r+b") as file:
        file.seek(11 * MIB)
        file.write(b"changed")
    body[11 * MIB : 11 * MIB + 7] = b"changed"
    with (mount / "large").open("rb") as file:
        file.seek(20 * MIB)
        assert file.read(100) == body[20 * MIB : 20 * MIB + 100]
    assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == body

"""The rclone program: PUT with Content-MD5, lists of version 1, copies on the server."""

import pytest

from commands import program, run, tree
from conftest import ACCESS_KEY, SECRET_KEY, payload
from wire import REGION

pytestmark = pytest.mark.rclone

MIB = 1024 * 1024


@pytest.fixture
def rclone(client_environment, endpoint):
    path = program("rclone")
    settings = {
        "RCLONE_CONFIG_REMOTE_TYPE": "s3", "RCLONE_CONFIG_REMOTE_PROVIDER": "Other",
        "RCLONE_CONFIG_REMOTE_ENDPOINT": endpoint, "RCLONE_CONFIG_REMOTE_REGION": REGION,
        "RCLONE_CONFIG_REMOTE_ACCESS_KEY_ID": ACCESS_KEY, "RCLONE_CONFIG_REMOTE_SECRET_ACCESS_KEY": SECRET_KEY,
        "RCLONE_RETRIES": "1", "RCLONE_LOW_LEVEL_RETRIES": "1", "RCLONE_CONFIG": "/dev/null",
    }
    # rclone 1.60 refuses to start with a private list of authorities it cannot use.
    environment = {name: value for name, value in client_environment.items() if name != "AWS_CA_BUNDLE"} | settings
    return lambda *arguments, expect=0: run([path, *arguments], environment, expect)


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "source"
    for name, size in [("empty", 0), ("one", 1), ("with space", 5000), ("deep/er", 300_000), ("ünï", 10), ("plus+%", 3)]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload(size))
    return source


def test_a_folder_is_copied_checked_and_purged(rclone, bucket, folder, tmp_path):
    """copy, check by MD5, copy back and delete: the same tree each way."""
    rclone("copy", folder, f"remote:{bucket}/folder")
    rclone("check", folder, f"remote:{bucket}/folder")
    rclone("copy", f"remote:{bucket}/folder", tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)
    rclone("delete", f"remote:{bucket}/folder")
    assert rclone("lsf", "--recursive", "--files-only", f"remote:{bucket}") == ""


def test_a_second_synchronisation_sends_nothing(rclone, bucket, folder, s3):
    """Times and sums that rclone stores come back, so that sync finds nothing to do; then it removes what went."""
    rclone("sync", folder, f"remote:{bucket}")
    before = {entry["Key"]: entry["LastModified"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    rclone("sync", folder, f"remote:{bucket}")
    after = {entry["Key"]: entry["LastModified"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    assert before == after
    (folder / "one").unlink()
    rclone("sync", folder, f"remote:{bucket}")
    assert "one" not in rclone("lsf", f"remote:{bucket}").splitlines()


@pytest.mark.multipart
def test_a_large_file_goes_in_parts(rclone, bucket, tmp_path):
    """A file above the cutoff is uploaded in parts and compared on the way back."""
    (tmp_path / "large").write_bytes(payload(10 * MIB + 1000))
    rclone("copy", "--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M", tmp_path / "large", f"remote:{bucket}")
    rclone("copy", f"remote:{bucket}/large", tmp_path / "back")
    assert (tmp_path / "back" / "large").read_bytes() == payload(10 * MIB + 1000)


@pytest.mark.copy
def test_an_object_is_moved_on_the_server(rclone, bucket, folder):
    """moveto copies on the server and deletes the source."""
    rclone("copy", folder, f"remote:{bucket}")
    rclone("moveto", f"remote:{bucket}/with space", f"remote:{bucket}/moved here")
    names = rclone("lsf", f"remote:{bucket}").splitlines()
    assert "moved here" in names and "with space" not in names


def test_a_piece_of_a_file_is_read(rclone, bucket, folder):
    """cat with an offset asks for that range alone. rclone has no conditional requests: it looks, and then acts."""
    rclone("copy", folder, f"remote:{bucket}")
    (folder / "text").write_text("0123456789" * 100)
    rclone("copyto", folder / "text", f"remote:{bucket}/text")
    assert rclone("cat", "--offset", "995", f"remote:{bucket}/text") == "56789"
    assert rclone("cat", "--offset", "3", "--count", "4", f"remote:{bucket}/text") == "3456"

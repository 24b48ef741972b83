"""The restic program: signed chunks without `aws-chunked`, small packs, locks, and a check of everything."""

import pytest

from commands import program, run, tree
from conftest import payload

pytestmark = pytest.mark.restic


@pytest.fixture
def restic(client_environment, endpoint, bucket):
    path = program("restic")
    environment = client_environment | {
        "RESTIC_REPOSITORY": f"s3:{endpoint}/{bucket}/repository", "RESTIC_PASSWORD": "test",
    }
    return lambda *arguments, expect=0: run([path, "--no-cache", *arguments], environment, expect)


def test_a_backup_is_made_checked_and_restored(restic, tmp_path):
    """init, two backups, a full check of the data, a restore that gives the same tree, and a prune."""
    source = tmp_path / "source"
    for name, size in [("empty", 0), ("small", 10), ("deep/er/file", 70_000), ("large", 9_000_000)]:
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(payload(size))
    restic("init")
    restic("backup", source)
    (source / "small").write_bytes(payload(11))
    restic("backup", source)
    restic("check", "--read-data")
    restic("restore", "latest", "--target", tmp_path / "back")
    assert tree(tmp_path / "back" / source.relative_to("/")) == tree(source)
    restic("forget", "--keep-last", "1", "--prune")
    restic("check", "--read-data")

"""The client whose bytes go past HTTP, over memory shared with the server: what it stores others fetch, and the other way round."""

import hashlib
import os
import pathlib
import subprocess

import boto3
import pytest
from botocore.config import Config

from conftest import ACCESS_KEY, SECRET_KEY
from server import Server
from wire import REGION

pytestmark = pytest.mark.rdma_client


class Setting:
    """A server with a socket for memory, the client's program, and boto3 to look from outside."""

    def __init__(self, directory):
        program = os.environ["CROSSDOCK_SERVER"]
        self.program = str(pathlib.Path(program).with_name("rdma-client"))
        self.socket = str(directory / "shm")
        extra = ["--shm", self.socket, "--memory", "128MiB"]
        self.server = Server(program, directory / "data", ACCESS_KEY, SECRET_KEY, extra)
        self.s3 = boto3.client(
            "s3", endpoint_url=self.server.address, region_name=REGION, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY, config=Config(s3={"addressing_style": "path"}),
        )
        self.s3.create_bucket(Bucket="bucket")

    def run(self, *arguments, options=("--require",), secret=SECRET_KEY):
        address = self.server.address.removeprefix("http://")
        command = [self.program, "--server", address, "--shm", self.socket, *options, *map(str, arguments)]
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=secret)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    if os.environ.get("CROSSDOCK_ENDPOINT"):
        pytest.skip("memory is shared with a server of this host only")
    setting = Setting(tmp_path_factory.mktemp("rdma"))
    yield setting
    assert setting.server.stop() == 0


def written(path, size):
    path.write_bytes(os.urandom(size))
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Empty, inline, packed, in extents, and in parts.
@pytest.mark.parametrize("size", [0, 1, 4097, 300_000, 8 << 20, 100_000_001])
def test_a_file_goes_both_ways(setting, tmp_path, size):
    source, target = tmp_path / "source", tmp_path / "target"
    expected = written(source, size)
    key = f"dir/a key+ü {size}"
    stored = setting.run("put", source, f"s3://bucket/{key}")
    assert (stored.returncode, stored.stderr) == (0, "")
    assert stored.stdout == f"put {size} bytes over shared memory\n"
    seen = setting.s3.get_object(Bucket="bucket", Key=key)["Body"].read()
    assert hashlib.sha256(seen).hexdigest() == expected
    fetched = setting.run("get", f"s3://bucket/{key}", target)
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert fetched.stdout == f"got {size} bytes over shared memory\n"
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected


def test_what_others_stored_is_fetched(setting, tmp_path):
    body = os.urandom(3_000_000)
    setting.s3.put_object(Bucket="bucket", Key="theirs", Body=body)
    assert setting.run("get", "s3://bucket/theirs", tmp_path / "target").returncode == 0
    assert (tmp_path / "target").read_bytes() == body


def test_failures_are_told(setting, tmp_path):
    source = tmp_path / "source"
    written(source, 10)
    missing = setting.run("put", source, "s3://no-such-bucket/key")
    assert missing.returncode == 1 and "NoSuchBucket" in missing.stderr
    assert setting.run("get", "s3://bucket/no-such-key", tmp_path / "target").returncode == 1
    wrong = setting.run("put", source, "s3://bucket/key", secret="wrong")
    assert wrong.returncode == 1 and "SignatureDoesNotMatch" in wrong.stderr


def test_the_bench_measures_both_ways(setting):
    measured = setting.run("bench", "s3://bucket/bench/", "--sizes", "4,512", "--seconds", "0.1")
    assert measured.returncode == 0, measured.stderr
    rows = [line.split() for line in measured.stdout.splitlines()[1:]]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (size, what, way) for size in ["4", "512"] for what in ["PUT", "GET"] for way in ["shm", "http"]
    ]
    assert all(float(row[4]) > 0 for row in rows)
    assert "Contents" not in setting.s3.list_objects_v2(Bucket="bucket", Prefix="bench/")

"""The client whose bytes go past HTTP, over memory shared with the server: what it stores others fetch, and the other way round."""

import concurrent.futures
import hashlib
import os
import pathlib
import re
import shutil
import socket as socketlib
import subprocess
import tempfile
import time
import urllib.request

import boto3
import pytest
from botocore.config import Config

from conftest import ACCESS_KEY, SECRET_KEY
from server import Server, certificates
from wire import REGION

pytestmark = pytest.mark.rdma_client


class Setting:
    """A server with a socket for memory, the client's program, and boto3 to look from outside."""

    def __init__(self, directory):
        program = os.environ["CROSSDOCK_SERVER"]
        self.program = str(pathlib.Path(program).with_name("rdma-client"))
        self.socket = str(directory / "shm")
        with socketlib.create_server(("127.0.0.1", 0)) as free:
            self.metrics = "http://127.0.0.1:%d/metrics" % free.getsockname()[1]
        observed = self.metrics.removeprefix("http://").removesuffix("/metrics")
        extra = ["--shm", self.socket, "--memory", "128MiB", "--metrics", observed]
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


# Nothing at all, less than a piece of the memory, one whole piece, and several.
@pytest.mark.parametrize("size", [0, 5, 300_000, 16 << 20, (32 << 20) + 1])
def test_a_pipe_is_read_to_its_end(setting, tmp_path, size):
    body, pipe = os.urandom(size), tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        writing = beside.submit(pipe.write_bytes, body)
        stored = setting.run("put", pipe, "s3://bucket/piped", options=("--require", "--memory", "16"))
        writing.result(60)
    assert (stored.returncode, stored.stderr) == (0, "")
    assert stored.stdout == f"put {size} bytes over shared memory\n"
    assert setting.s3.get_object(Bucket="bucket", Key="piped")["Body"].read() == body


def test_a_file_that_the_kernel_makes_up_is_read(setting):
    # Its length is 0, whatever is in it.
    stored = setting.run("put", "/proc/self/status", "s3://bucket/status")
    assert (stored.returncode, stored.stderr) == (0, "")
    assert setting.s3.get_object(Bucket="bucket", Key="status")["Body"].read().startswith(b"Name:\trdma-client")


def test_a_large_file_is_moved_by_several_at_a_time(setting, tmp_path):
    # Whatever the number, the object is the file; and what is no file takes the bytes in their order.
    source, target = tmp_path / "source", tmp_path / "target"
    expected = written(source, (40 << 20) + 3)
    for jobs in (1, 3, 8):
        options = ("--require", "--jobs", str(jobs))
        stored = setting.run("put", source, "s3://bucket/large", options=options)
        assert (stored.returncode, stored.stderr) == (0, "")
        fetched = setting.run("get", "s3://bucket/large", target, options=options)
        assert (fetched.returncode, fetched.stderr) == (0, "")
        assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        reading = beside.submit(pipe.read_bytes)
        assert setting.run("get", "s3://bucket/large", pipe).returncode == 0
        assert hashlib.sha256(reading.result(60)).hexdigest() == expected


def test_without_a_session_it_goes_over_http(setting, tmp_path):
    # Unless that is not wanted; and it is told why.
    source = tmp_path / "source"
    expected = written(source, 20 << 20)
    elsewhere = ("--shm", str(tmp_path / "nothing"))
    address = setting.server.address.removeprefix("http://")
    environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)

    def run(*arguments):
        command = [setting.program, "--server", address, *elsewhere, *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    required = run("--require", "put", source, "s3://bucket/fallen")
    assert required.returncode == 1 and "no shared memory with the server" in required.stderr
    stored = run("put", source, "s3://bucket/fallen")
    assert stored.returncode == 0, stored.stderr
    assert stored.stdout.startswith(f"put {20 << 20} bytes over HTTP: no shared memory with the server")
    fetched = run("get", "s3://bucket/fallen", tmp_path / "target")
    assert "over HTTP: no shared memory" in fetched.stdout
    assert hashlib.sha256((tmp_path / "target").read_bytes()).hexdigest() == expected


def test_operators_see_sessions(setting, tmp_path):
    # How many were made, and that none is left; shared memory has no rails.
    source = tmp_path / "source"
    written(source, 10)
    assert setting.run("put", source, "s3://bucket/seen").returncode == 0
    for _ in range(100):
        text = urllib.request.urlopen(setting.metrics, timeout=10).read().decode()
        if 'crossdock_remote_sessions{transport="shm"} 0\n' in text:
            break
        time.sleep(0.1)
    assert 'crossdock_remote_sessions{transport="shm"} 0\n' in text
    assert re.search(r'crossdock_remote_connects_total{result="made"} [1-9]', text)
    assert "crossdock_remote_rail_usable{" not in text


NOBODY = 65534


def test_another_user_has_to_be_let_in(tmp_path_factory):
    # Shows that neither side takes the other for one of its own, and that both do when they are told: a server that root runs, of whom
    # everybody who has the memory may be sure, and one that a user runs for another.
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    directory = pathlib.Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        program = str(pathlib.Path(os.environ["CROSSDOCK_SERVER"]).with_name("rdma-client"))
        copy, source, socket = directory / "rdma-client", directory / "source", directory / "shm"
        shutil.copy(program, copy)
        source.write_bytes(b"bytes")

        def put(server, user, *options):
            address = server.address.removeprefix("http://")
            command = [copy, "--server", address, "--shm", socket, "--require", *options, "put", source, "s3://bucket/key"]
            environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY)
            return subprocess.run(
                command, user=user, env=environment, capture_output=True, text=True, timeout=60, check=False
            )

        def hung_up_on(done):
            # The server says why and hangs up, perhaps before the client has said its first line.
            return "not for this user" in done.stderr or "Broken pipe" in done.stderr

        def serve(*options):
            extra = ["--shm", str(socket), *options]
            server = Server(os.environ["CROSSDOCK_SERVER"], directory / "data", ACCESS_KEY, SECRET_KEY, extra)
            boto3.client(
                "s3", endpoint_url=server.address, region_name=REGION, aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY,
            ).create_bucket(Bucket="bucket")
            return server

        server = serve()
        assert put(server, 0).returncode == 0
        assert put(server, NOBODY).returncode == 1
        # Past the file system the server says no.
        socket.chmod(0o666)
        refused = put(server, NOBODY)
        assert refused.returncode == 1 and hung_up_on(refused)
        assert server.stop() == 0
        server = serve("--shm-users", str(NOBODY))
        assert put(server, NOBODY).stdout == "put 5 bytes over shared memory\n"
        assert hung_up_on(put(server, 65533))
        assert server.stop() == 0

        # The socket of a server of nobody's, which another has to trust by name.
        with socketlib.socket(socketlib.AF_UNIX, socketlib.SOCK_SEQPACKET) as listener:
            os.seteuid(NOBODY)
            try:
                directory_of_nobody = pathlib.Path(tempfile.mkdtemp())
                listener.bind(str(directory_of_nobody / "shm"))
                listener.listen()
            finally:
                os.seteuid(0)
            directory_of_nobody.chmod(0o755)
            (directory_of_nobody / "shm").chmod(0o666)
            socket = directory_of_nobody / "shm"
            assert "not trusted" in put(server, 65533).stderr
            shutil.rmtree(directory_of_nobody)
    finally:
        shutil.rmtree(directory)


def test_requests_go_by_https(tmp_path_factory, tmp_path):
    # Bytes over shared memory and in bodies, asked for by HTTPS: of a server that somebody vouches for who was named, and of no other.
    if os.environ.get("CROSSDOCK_ENDPOINT"):
        pytest.skip("memory is shared with a server of this host only")
    directory = tmp_path_factory.mktemp("https")
    authority, options = certificates(directory)
    socket, program = str(directory / "shm"), os.environ["CROSSDOCK_SERVER"]
    server = Server(program, directory / "data", ACCESS_KEY, SECRET_KEY, ["--shm", socket, *options])
    port = server.address.rsplit(":", 1)[1]
    source, target = tmp_path / "source", tmp_path / "target"
    expected = written(source, 3_000_001)

    def run(host, *arguments, **variables):
        command = [pathlib.Path(program).with_name("rdma-client"), "--server", f"https://{host}:{port}", *map(str, arguments)]
        environment = dict(os.environ, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, **variables)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    boto3.client(
        "s3", endpoint_url=f"https://127.0.0.1:{port}", region_name=REGION, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY, verify=authority,
    ).create_bucket(Bucket="bucket")
    over = ("--ca-file", authority, "--shm", socket, "--require")
    assert run("127.0.0.1", *over, "put", source, "s3://bucket/key").stdout == "put 3000001 bytes over shared memory\n"
    fetched = run("localhost", "--shm", socket, "get", "s3://bucket/key", target, AWS_CA_BUNDLE=authority)
    assert fetched.stdout == "got 3000001 bytes over shared memory\n", fetched.stderr
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
    nowhere = ("--ca-file", authority, "--shm", str(tmp_path / "nothing"))
    assert "over HTTP: no shared memory" in run("127.0.0.1", *nowhere, "get", "s3://bucket/key", target).stdout
    assert hashlib.sha256(target.read_bytes()).hexdigest() == expected
    stranger = run("127.0.0.1", "--shm", socket, "--require", "put", source, "s3://bucket/key")
    assert stranger.returncode == 1 and re.search("certificate|vouch", stranger.stderr), stranger.stderr
    assert server.stop() == 0


def test_the_region_is_that_of_the_environment(setting, tmp_path):
    # AWS_REGION goes before AWS_DEFAULT_REGION; the server says which region a signature named only where it has one of its own.
    directory = tmp_path / "regional"
    directory.mkdir()
    program, socket = os.environ["CROSSDOCK_SERVER"], str(directory / "shm")
    extra = ["--shm", socket, "--region", "eu-west-1"]
    server = Server(program, directory / "data", ACCESS_KEY, SECRET_KEY, extra)
    address = server.address.removeprefix("http://")

    def head(**variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment.update(AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY, **variables)
        command = [setting.program, "--server", address, "--shm", socket, "get", "s3://no-bucket/key", tmp_path / "target"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    assert "404" in head(AWS_REGION="eu-west-1", AWS_DEFAULT_REGION="us-east-1")
    assert "404" in head(AWS_DEFAULT_REGION="eu-west-1")
    assert "404" not in head(AWS_DEFAULT_REGION="us-east-1")
    assert server.stop() == 0


def test_failures_are_told(setting, tmp_path):
    source = tmp_path / "source"
    written(source, 10)
    missing = setting.run("put", source, "s3://no-such-bucket/key")
    assert missing.returncode == 1 and "NoSuchBucket" in missing.stderr
    assert setting.run("get", "s3://bucket/no-such-key", tmp_path / "target").returncode == 1
    wrong = setting.run("put", source, "s3://bucket/key", secret="wrong")
    assert wrong.returncode == 1 and "SignatureDoesNotMatch" in wrong.stderr


@pytest.mark.parametrize("depth", [1, 3])
def test_the_bench_measures_both_ways(setting, depth):
    measured = setting.run(
        "bench", "s3://bucket/bench/", "--sizes", "4,512", "--seconds", "0.1", "--depth", str(depth)
    )
    assert measured.returncode == 0, measured.stderr
    rows = [line.split() for line in measured.stdout.splitlines()[1:]]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        (size, what, way) for size in ["4", "512"] for what in ["PUT", "GET"] for way in ["shm", "http"]
    ]
    assert all(float(row[4]) > 0 for row in rows)
    assert "Contents" not in setting.s3.list_objects_v2(Bucket="bucket", Prefix="bench/")

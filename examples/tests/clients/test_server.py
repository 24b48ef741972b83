"""The server as a process: what it does with many connections, with signals, and with stores it must not touch."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import time

import boto3
import pytest
from botocore.config import Config

from conftest import ACCESS_KEY, SECRET_KEY, payload
from server import Server
from test_hostile import assert_serves, head
from wire import REGION, Wire, read_answer, sha256_hex

pytestmark = pytest.mark.hostile

# One core with the least memory there is: what holds here holds anywhere.
SMALL = ["--cores", "1", "--memory", "32MiB", "--shards", "1"]
CONNECTIONS_MAX = 1024
PATIENCE_SECONDS = 20


@pytest.fixture(scope="session")
def program():
    if os.environ.get("CROSSDOCK_ENDPOINT"):
        pytest.skip("a server that runs elsewhere is not started or stopped")
    return os.environ["CROSSDOCK_SERVER"]


class Running:
    """A server of a test's own."""

    def __init__(self, program, data):
        self.server = Server(program, data, ACCESS_KEY, SECRET_KEY, SMALL)
        self.wire = Wire(self.server.address, ACCESS_KEY, SECRET_KEY)
        self.s3 = boto3.client(
            "s3", endpoint_url=self.server.address, region_name=REGION, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=60),
        )

    def connect(self, stack):
        return stack.enter_context(socket.create_connection(self.wire.address, timeout=PATIENCE_SECONDS))


@pytest.fixture
def running(program, tmp_path):
    running = Running(program, tmp_path / "data")
    yield running
    if running.server.process.poll() is None:
        assert running.server.stop() == 0


def test_long_heads_hold_nobody_up(running):
    """Six hundred heads of 60 KB that do not end would fill the memory; an ordinary client does not notice."""
    running.s3.create_bucket(Bucket="long-heads")
    with contextlib.ExitStack() as stack:
        for _ in range(600):
            connection = running.connect(stack)
            with contextlib.suppress(OSError):
                connection.sendall(b"GET /long-heads HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 60_000)
        begin = time.monotonic()
        assert_serves(running.s3, "long-heads")
        assert time.monotonic() - begin < PATIENCE_SECONDS / 2, "served only after the heads ran out of time"


def test_too_many_connections_are_told(running):
    """One connection more than are allowed is told to slow down, as S3 says it, and fewer are served again."""
    running.s3.create_bucket(Bucket="crowd")
    running.s3.close()
    with contextlib.ExitStack() as stack:
        crowd = [running.connect(stack) for _ in range(CONNECTIONS_MAX)]
        # The last of them is served, or there was one too few.
        crowd[-1].sendall(head(running.wire, "GET", "/crowd", content_sha256=sha256_hex(b"")))
        assert read_answer(crowd[-1], "GET").status == 200
        answers = [read_answer(running.connect(stack), "GET") for _ in range(3)]
    last = answers[-1]
    assert (last.status, last.code(), last.headers["connection"]) == (503, "SlowDown", "close")
    assert last.headers["x-amz-request-id"] and last.headers["date"]
    assert_serves(running.s3, "crowd")


def test_old_clients_keep_their_connection_if_they_ask(running):
    """HTTP/1.0 with keep-alive is told so and served twice; without, the connection ends after the reply."""
    request = b"GET /absent HTTP/1.0\r\nHost: x\r\n%s\r\n"
    with contextlib.ExitStack() as stack:
        connection = running.connect(stack)
        for _ in range(2):
            connection.sendall(request % b"Connection: keep-alive\r\n")
            answer = read_answer(connection, "GET")
            assert (answer.status, answer.headers["connection"].lower()) == (404, "keep-alive")
        connection = running.connect(stack)
        connection.sendall(request % b"")
        assert read_answer(connection, "GET").headers["connection"] == "close"
        assert connection.recv(1) == b""


def test_a_signal_lets_requests_in_work_end(program, tmp_path):
    """SIGTERM in the midst of an upload: it is finished and answered, idle connections close, the object is there."""
    running, body = Running(program, tmp_path / "data"), payload(3_000_000)
    running.s3.create_bucket(Bucket="drain")
    with contextlib.ExitStack() as stack:
        idle, busy = running.connect(stack), running.connect(stack)
        busy.sendall(head(running.wire, "PUT", "/drain/object", {"content-length": str(len(body))}) + body[:1_000_000])
        time.sleep(0.3)
        running.server.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b""
        # In which order a core closes its idle connections and its socket is nobody's to rely on: both happen while the
        # upload is still under way.
        until = time.monotonic() + PATIENCE_SECONDS
        with pytest.raises(OSError):
            while time.monotonic() < until:
                socket.create_connection(running.wire.address, timeout=PATIENCE_SECONDS).close()
                time.sleep(0.02)
        busy.sendall(body[1_000_000:])
        answer = read_answer(busy, "PUT")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert running.server.process.wait(timeout=PATIENCE_SECONDS) == 0
    again = Running(program, tmp_path / "data")
    assert again.s3.get_object(Bucket="drain", Key="object")["Body"].read() == body
    assert again.server.stop() == 0


def refused(program, data, listen="127.0.0.1:0"):
    """Starts a server that must refuse; gives what it says."""
    arguments = [program, "--listen", listen, "--data", str(data), *SMALL]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "ready" not in done.stdout
    return done.stderr


def contents(directory):
    return {
        path.relative_to(directory): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*")) if path.is_file()
    }


def test_a_store_in_use_is_refused(running, program, tmp_path):
    """A second server on the same directory ends with a message that names it; the first goes on."""
    assert str(tmp_path / "data") in refused(program, tmp_path / "data")
    running.s3.create_bucket(Bucket="still-there")


def test_a_store_of_another_format_is_refused_untouched(program, tmp_path):
    """A superblock that cannot be read, in any of its copies, is named, and no byte is changed."""
    data = tmp_path / "data"
    Running(program, data).server.stop()
    superblock = next(path for path in data.iterdir() if "superblock" in path.name)
    good = superblock.read_bytes()
    for bad in (bytes(len(good)), payload(len(good)), good[:100]):
        superblock.write_bytes(bad)
        before = contents(data)
        assert str(data) in refused(program, data)
        assert contents(data) == before
    superblock.write_bytes(good)
    assert Running(program, data).server.stop() == 0


def test_a_taken_port_is_refused(running, program, tmp_path):
    """A port that somebody listens on is named, and no store is made for nothing."""
    port = running.server.address.rsplit(":", 1)[1]
    said = refused(program, tmp_path / "other", f"127.0.0.1:{port}")
    assert port in said and not (tmp_path / "other").exists()

"""Clients that are slow, stuck, or up to something: everyone else is served all the same."""

import contextlib
import socket
import time

import pytest
from botocore.exceptions import ClientError

from conftest import payload
from wire import read_answer, sha256_hex

pytestmark = pytest.mark.hostile

MIB = 1024 * 1024
# A request that waits longer than this behind others is not being served.
PATIENCE_SECONDS = 20


def assert_serves(s3, bucket):
    """An ordinary client writes and reads; a server that is full may say so a few times, and no longer."""
    body, begin = payload(50_000), time.monotonic()
    while True:
        try:
            s3.put_object(Bucket=bucket, Key="ordinary", Body=body)
            assert s3.get_object(Bucket=bucket, Key="ordinary")["Body"].read() == body
            return
        except ClientError as error:
            assert error.response["Error"]["Code"] == "SlowDown", error
            assert time.monotonic() - begin < PATIENCE_SECONDS, "an ordinary client is turned away for good"
            time.sleep(0.2)


def connect(wire, stack):
    return stack.enter_context(socket.create_connection(wire.address, timeout=PATIENCE_SECONDS))


def head(wire, method, path, headers=None, content_sha256="UNSIGNED-PAYLOAD"):
    signed = wire.sign(method, path, (), headers or {}, content_sha256)
    lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode()


def test_heads_that_drip_hold_nobody_up(wire, s3, bucket):
    """Sixty connections that never finish their heads leave the server serving."""
    with contextlib.ExitStack() as stack:
        dripping = [connect(wire, stack) for _ in range(60)]
        for turn in range(5):
            for number, connection in enumerate(dripping):
                with contextlib.suppress(OSError):
                    connection.sendall(head(wire, "GET", f"/{bucket}/{number}")[turn : turn + 1])
            assert_serves(s3, bucket)


def test_puts_that_stall_hold_nobody_up(wire, s3, bucket):
    """Two hundred uploads of a gigabyte that stop after their first bytes leave room, and no object."""
    with contextlib.ExitStack() as stack:
        for number in range(200):
            connection = connect(wire, stack)
            with contextlib.suppress(OSError):
                connection.sendall(head(wire, "PUT", f"/{bucket}/stalled-{number}", {"content-length": str(1024 * MIB)}))
                connection.sendall(b"x" * 1000)
        assert_serves(s3, bucket)
    assert_serves(s3, bucket)
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["ordinary"]


def test_readers_that_stop_hold_nobody_up(wire, s3, bucket):
    """Forty downloads of 32 MiB of which nobody reads more than a few bytes leave room for the others."""
    s3.put_object(Bucket=bucket, Key="large", Body=payload(32 * MIB))
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            connection = connect(wire, stack)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(head(wire, "GET", f"/{bucket}/large", content_sha256=sha256_hex(b"")))
            # A server that is full says so; one that is not begins its reply.
            assert connection.recv(16).startswith(b"HTTP/1.1 ")
        assert_serves(s3, bucket)
    assert s3.get_object(Bucket=bucket, Key="large")["Body"].read() == payload(32 * MIB)


def test_a_half_closed_connection_is_answered(wire, s3, bucket):
    """A client that says it will send nothing more still gets the reply to what it sent."""
    s3.put_object(Bucket=bucket, Key="object", Body=b"hello")
    with contextlib.ExitStack() as stack:
        connection = connect(wire, stack)
        connection.sendall(head(wire, "GET", f"/{bucket}/object", content_sha256=sha256_hex(b"")))
        connection.shutdown(socket.SHUT_WR)
        answer = read_answer(connection, "GET")
    assert (answer.status, answer.body) == (200, b"hello")


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_body_held_back_is_asked_for(wire, s3, bucket, size):
    """A client that waits for 100 Continue gets it, for an empty body too: some take a connection on which it never
    came for spoilt, and still send their next request there."""
    body = payload(size)
    headers = {"content-length": str(size), "expect": "100-continue"}
    with contextlib.ExitStack() as stack:
        connection = connect(wire, stack)
        for name in ("first", "second"):
            connection.sendall(head(wire, "PUT", f"/{bucket}/{name}", headers))
            interim = b"HTTP/1.1 100 Continue\r\n\r\n"
            assert connection.recv(len(interim), socket.MSG_WAITALL) == interim
            connection.sendall(body)
            assert read_answer(connection, "PUT").status == 200
    for name in ("first", "second"):
        assert s3.get_object(Bucket=bucket, Key=name)["Body"].read() == body


@pytest.mark.parametrize("size", [0, 300_000])
def test_a_body_that_is_not_wanted_ends_the_connection(wire, bucket, size):
    """A refusal instead of 100 Continue is the connection's last reply: nobody knows whether the body follows."""
    headers = {"content-length": str(size), "expect": "100-continue"}
    with contextlib.ExitStack() as stack:
        connection = connect(wire, stack)
        connection.sendall(head(wire, "PUT", f"/{bucket}-absent/object", headers))
        answer = read_answer(connection, "PUT")
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert connection.recv(1) == b""


def test_requests_sent_at_once_are_answered_in_order(wire, s3, bucket):
    """Several requests in one packet get their replies one after the other, each whole."""
    bodies = [payload(3000 + number, seed=number) for number in range(4)]
    for number, body in enumerate(bodies):
        s3.put_object(Bucket=bucket, Key=f"object-{number}", Body=body)
    empty = sha256_hex(b"")
    requests = [head(wire, "GET", f"/{bucket}/object-{number}", content_sha256=empty) for number in range(4)]
    last = head(wire, "GET", f"/{bucket}/absent", {"connection": "close"}, empty)
    with contextlib.ExitStack() as stack:
        connection = connect(wire, stack)
        connection.sendall(b"".join([*requests, last]))
        received = b""
        while block := connection.recv(65536):
            received += block
    places = [received.find(body) for body in bodies]
    assert -1 not in places and places == sorted(places)
    assert received.count(b"HTTP/1.1 200") == 4 and received.count(b"HTTP/1.1 404") == 1


def delete_objects(wire, bucket, body):
    return wire.request("POST", f"/{bucket}", [("delete", "")], {"content-type": "application/xml"}, body)


def entries(count):
    return b"".join(b"<Object><Key>k%d</Key></Object>" % number for number in range(count))


@pytest.mark.parametrize("body", [
    b"", b"<Delete>", b"not xml", b"<Delete></Delet>", b"<Other/>", b"<Delete>" + entries(1001) + b"</Delete>",
    b"<Delete>" * 100_000,
    b'<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<Delete><Object><Key>&b;</Key></Object></Delete>",
    b'<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete><Object><Key>x</Key></Object></Delete>',
    b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>",
], ids=["empty", "open", "text", "mismatch", "other", "1001", "deep", "entities", "external", "not-utf8"])
def test_bad_xml_is_refused(wire, s3, bucket, body):
    """XML that is broken, too long, too deep or full of entities is a client's error and deletes nothing."""
    s3.put_object(Bucket=bucket, Key="k1", Body=b"x")
    answer = delete_objects(wire, bucket, body)
    assert answer is None or 400 <= answer.status < 500, answer.body
    assert s3.get_object(Bucket=bucket, Key="k1")["Body"].read() == b"x"


def test_xml_without_end_is_cut_off(wire, s3, bucket):
    """A request document of 64 MiB is refused without being kept in memory."""
    body = b"<Delete>" + b"<Object><Key>" + b"k" * (64 * MIB) + b"</Key></Object></Delete>"
    answer = delete_objects(wire, bucket, body)
    assert answer is None or 400 <= answer.status < 500
    assert_serves(s3, bucket)

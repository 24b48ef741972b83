"""What the server must not do: believe a wrong signature, keep a damaged body, or guess at an operation."""

import base64
import datetime
import hashlib
import re
import zlib

import pytest

from conftest import payload
from wire import chunk_signatures, sha256_hex

pytestmark = pytest.mark.refusals


def assert_nothing_there(s3, bucket):
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize("change,code", [
    ({"secret_key": "wrong"}, "SignatureDoesNotMatch"),
    ({"access_key": "NOBODY"}, "InvalidAccessKeyId"),
    ({"now": datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)}, "RequestTimeTooSkewed"),
    ({"now": datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)}, "RequestTimeTooSkewed"),
], ids=["secret", "access", "past", "future"])
def test_a_wrong_signature_stores_nothing(wire, s3, bucket, change, code):
    """A wrong secret, an unknown key and a clock an hour off are 403 with their own codes, and store nothing."""
    answer = wire.request("PUT", f"/{bucket}/object", body=b"x" * 5000, **change)
    assert (answer.status, answer.code()) == (403, code)
    assert_nothing_there(s3, bucket)


def test_no_signature_is_no_entry(wire, s3, bucket):
    """A request without credentials neither reads nor writes."""
    s3.put_object(Bucket=bucket, Key="object", Body=b"x")
    for method in ("GET", "PUT", "DELETE"):
        answer = wire.send(method, f"/{bucket}/object", (), {"host": wire.host, "content-length": "0"}, b"")
        assert (answer.status, answer.code()) == (403, "AccessDenied")
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == b"x"


def test_every_signed_part_counts(wire, s3, bucket):
    """A request changed after it was signed, in its path, query, method or a signed header, is refused."""
    s3.put_object(Bucket=bucket, Key="object", Body=b"x")
    headers = wire.sign("GET", f"/{bucket}/object", (), {"range": "bytes=0-0"})
    assert wire.send("GET", f"/{bucket}/object", (), headers, b"").status == 206
    changed = [
        ("GET", f"/{bucket}/other", (), headers),
        ("DELETE", f"/{bucket}/object", (), headers),
        ("GET", f"/{bucket}/object", [("partNumber", "1")], headers),
        ("GET", f"/{bucket}/object", (), headers | {"range": "bytes=0-1"}),
        ("GET", f"/{bucket}/object", (), headers | {"x-amz-content-sha256": sha256_hex(b"y")}),
    ]
    for method, path, query, signed in changed:
        answer = wire.send(method, path, query, signed, b"")
        assert (answer.status, answer.code()) == (403, "SignatureDoesNotMatch"), (method, path, query)
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == b"x"


def test_an_unsigned_amz_header_is_refused(wire, s3, bucket):
    """An x-amz header added behind the signature could change the operation, so it must be signed."""
    headers = wire.sign("PUT", f"/{bucket}/object", (), {"content-length": "1"}, sha256_hex(b"x"))
    answer = wire.send("PUT", f"/{bucket}/object", (), headers | {"x-amz-meta-added": "1"}, b"x")
    assert answer.status == 403
    assert_nothing_there(s3, bucket)


BODY = payload(300 * 1024 + 5)
MIB = 1024 * 1024


@pytest.mark.parametrize("size", [10, 5000, 300 * 1024, 3 * MIB])
@pytest.mark.parametrize("header", ["content-md5", "x-amz-checksum-crc32", "x-amz-checksum-sha256", "x-amz-content-sha256"])
def test_a_wrong_checksum_stores_nothing(wire, s3, bucket, header, size):
    """A well-formed sum that is not the body's is an error of its own, and the object does not appear."""
    body, other = payload(size), payload(size, seed=2)
    value = {
        "content-md5": lambda: base64.b64encode(hashlib.md5(other).digest()).decode(),
        "x-amz-checksum-crc32": lambda: base64.b64encode(zlib.crc32(other).to_bytes(4, "big")).decode(),
        "x-amz-checksum-sha256": lambda: base64.b64encode(hashlib.sha256(other).digest()).decode(),
        "x-amz-content-sha256": lambda: sha256_hex(other),
    }[header]()
    if header == "x-amz-content-sha256":
        answer, code = wire.request("PUT", f"/{bucket}/object", body=body, content_sha256=value), "XAmzContentSHA256Mismatch"
    else:
        answer, code = wire.request("PUT", f"/{bucket}/object", headers={header: value}, body=body), "BadDigest"
    assert (answer.status, answer.code()) == (400, code)
    assert_nothing_there(s3, bucket)


def test_a_wrong_checksum_leaves_the_old_object(wire, s3, bucket):
    """A refused overwrite changes nothing: the object that was there is still whole."""
    s3.put_object(Bucket=bucket, Key="object", Body=BODY)
    other = payload(len(BODY), seed=9)
    answer = wire.request("PUT", f"/{bucket}/object", body=other, content_sha256=sha256_hex(b"?"))
    assert answer.status == 400
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == BODY


@pytest.mark.parametrize("header,value,code", [
    ("content-md5", "not base64!", "InvalidDigest"),
    ("content-md5", "AAAA", "InvalidDigest"),
    ("x-amz-checksum-crc32", "AAAA", "InvalidRequest"),
    ("x-amz-checksum-crc32", "????????", "InvalidRequest"),
])
def test_a_malformed_checksum_is_refused(wire, s3, bucket, header, value, code):
    """A sum that cannot be one is told apart from one that does not match."""
    answer = wire.request("PUT", f"/{bucket}/object", headers={header: value}, body=b"x")
    assert (answer.status, answer.code()) == (400, code)
    assert_nothing_there(s3, bucket)


@pytest.mark.parametrize("sent", [0, 1, 4096, 256 * 1024, 300 * 1024])
def test_a_short_body_stores_nothing(wire, s3, bucket, sent):
    """A connection that ends before Content-Length is reached leaves no object and a working server."""
    headers = wire.sign("PUT", f"/{bucket}/object", (), {"content-length": str(len(BODY))}, "UNSIGNED-PAYLOAD")
    answer = wire.send("PUT", f"/{bucket}/object", (), headers, BODY[:sent], stop_sending=True)
    assert answer is None or answer.status >= 400
    assert_nothing_there(s3, bucket)


def test_a_put_without_a_length_is_refused(wire, s3, bucket):
    """PUT with neither Content-Length nor a framing that gives one is MissingContentLength."""
    headers = wire.sign("PUT", f"/{bucket}/object", (), {}, "UNSIGNED-PAYLOAD")
    answer = wire.send("PUT", f"/{bucket}/object", (), headers, b"", stop_sending=True)
    assert (answer.status, answer.code()) == (411, "MissingContentLength")
    assert_nothing_there(s3, bucket)


# aws-chunked bodies ---------------------------------------------------------------------------------------------


def signed_chunks(wire, bucket, chunks, framing=lambda encoded: encoded, tamper=lambda signatures: signatures):
    """PUT with STREAMING-AWS4-HMAC-SHA256-PAYLOAD: each chunk carries a signature chained to the one before."""
    length = sum(len(chunk) for chunk in chunks)
    frames = sum(len(f"{len(chunk):x};chunk-signature=") + 64 + 4 + len(chunk) for chunk in [*chunks, b""])
    headers = {
        "content-encoding": "aws-chunked", "content-length": str(frames), "x-amz-decoded-content-length": str(length),
    }
    headers = wire.sign("PUT", f"/{bucket}/object", (), headers, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    seed = re.search("Signature=([0-9a-f]+)", headers["authorization"]).group(1)
    signatures = tamper(chunk_signatures(chunks, seed, wire.secret_key, headers["x-amz-date"]))
    encoded = b""
    for chunk, signature in zip([*chunks, b""], signatures):
        encoded += f"{len(chunk):x};chunk-signature={signature}\r\n".encode() + chunk + b"\r\n"
    return wire.send("PUT", f"/{bucket}/object", (), headers, framing(encoded), stop_sending=True)


CHUNKS = [BODY[:65536], BODY[65536:131072], BODY[131072:]]


def test_signed_chunks_are_stored_decoded(wire, s3, bucket):
    """A body in signed chunks is stored as what the chunks hold, and `aws-chunked` is no encoding of it."""
    answer = signed_chunks(wire, bucket, CHUNKS)
    assert answer.status == 200, answer.body
    got = s3.get_object(Bucket=bucket, Key="object")
    assert got["Body"].read() == BODY
    assert got.get("ContentEncoding", "") == ""


def swap(signatures):
    return [signatures[1], signatures[0], *signatures[2:]]


def spoil_last(signatures):
    return [*signatures[:-1], "0" * 64]


@pytest.mark.parametrize("tamper", [swap, spoil_last])
def test_a_wrong_chunk_signature_stores_nothing(wire, s3, bucket, tamper):
    """A chunk whose signature is not chained to the ones before it spoils the whole upload."""
    answer = signed_chunks(wire, bucket, CHUNKS, tamper=tamper)
    assert (answer.status, answer.code()) == (403, "SignatureDoesNotMatch")
    assert_nothing_there(s3, bucket)


@pytest.mark.parametrize("cut", [1, 70, 90, 70000])
def test_truncated_chunks_store_nothing(wire, s3, bucket, cut):
    """A chunked body that ends early, in the final chunk or long before it, leaves no object."""
    answer = signed_chunks(wire, bucket, CHUNKS, framing=lambda encoded: encoded[:-cut])
    assert answer is None or answer.status >= 400
    assert_nothing_there(s3, bucket)


def unsigned_trailer(wire, bucket, body, trailer, announced="x-amz-checksum-crc32", length=None):
    """PUT with STREAMING-UNSIGNED-PAYLOAD-TRAILER: boto3's default over TLS."""
    encoded = b"".join(
        f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in [body[:100000], body[100000:]] if chunk
    )
    encoded += b"0\r\n" + trailer + b"\r\n"
    headers = {
        "content-encoding": "aws-chunked", "content-length": str(len(encoded)), "x-amz-trailer": announced,
        "x-amz-decoded-content-length": str(len(body) if length is None else length),
    }
    headers = wire.sign("PUT", f"/{bucket}/object", (), headers, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    return wire.send("PUT", f"/{bucket}/object", (), headers, encoded, stop_sending=True)


def crc32_trailer(body):
    return b"x-amz-checksum-crc32:" + base64.b64encode(zlib.crc32(body).to_bytes(4, "big")) + b"\r\n"


def test_a_trailing_checksum_is_verified(wire, s3, bucket):
    """The sum behind the body is compared with the body: right is stored, wrong is BadDigest."""
    assert unsigned_trailer(wire, bucket, BODY, crc32_trailer(BODY)).status == 200
    head = s3.head_object(Bucket=bucket, Key="object", ChecksumMode="ENABLED")
    assert head["ChecksumCRC32"] == base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big")).decode()
    answer = unsigned_trailer(wire, bucket, payload(len(BODY), seed=3), crc32_trailer(BODY))
    assert (answer.status, answer.code()) == (400, "BadDigest")
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == BODY


@pytest.mark.parametrize("trailer,announced,length", [
    (b"", "x-amz-checksum-crc32", None),
    (crc32_trailer(BODY), "x-amz-checksum-sha256", None),
    (crc32_trailer(BODY), "x-amz-checksum-crc32", len(BODY) + 1),
    (crc32_trailer(BODY), "x-amz-checksum-crc32", len(BODY) - 1),
], ids=["missing", "another", "longer", "shorter"])
def test_a_trailer_must_keep_its_promise(wire, s3, bucket, trailer, announced, length):
    """A trailer that is missing, is another than announced, or follows a body of another length is an error."""
    answer = unsigned_trailer(wire, bucket, BODY, trailer, announced, length)
    assert answer is None or 400 <= answer.status < 500
    assert_nothing_there(s3, bucket)


# Operations that do not exist -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method,path,query", [
    ("PUT", "/{}/object", [("inventory", "")]),
    ("PUT", "/{}/object", [("some-new-thing", "")]),
    ("GET", "/{}/object", [("torrent", "")]),
    ("POST", "/{}/object", [("select", ""), ("select-type", "2")]),
    ("PUT", "/{}", [("analytics", ""), ("id", "1")]),
    ("GET", "/{}", [("metrics", "")]),
    ("DELETE", "/{}/object", [("some-new-thing", "")]),
])
def test_an_unknown_sub_resource_never_falls_through(wire, s3, bucket, method, path, query):
    """`PUT /b/k?inventory` must not store an object: what is not there answers 501 and changes nothing."""
    s3.put_object(Bucket=bucket, Key="object", Body=b"before")
    answer = wire.request(method, path.format(bucket), query, body=b"<x/>" if method != "GET" else b"")
    assert (answer.status, answer.code()) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="object")["Body"].read() == b"before"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


def test_an_error_explains_itself(wire, bucket):
    """An error reply is XML with code, message, resource and request id, and the id is in a header too."""
    answer = wire.request("GET", f"/{bucket}/absent")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("application/xml")
    for element in (b"<Code>NoSuchKey</Code>", b"<Message>", b"<Resource>", b"<RequestId>"):
        assert element in answer.body, element
    assert answer.headers["x-amz-request-id"].encode() in answer.body


@pytest.mark.parametrize("bytes_sent", [
    b"GET / HTTP/1.1\r\n\r\n", b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-long: " + b"a" * 200_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x-many: 1\r\n" * 20_000 + b"\r\n",
    b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
], ids=range(10))
def test_broken_http_is_refused(wire, s3, bucket, bytes_sent):
    """Bytes that are not a request, or could be read as two, end in a 4xx or a closed connection."""
    import socket

    from wire import read_answer

    with socket.create_connection(wire.address, timeout=30) as connection:
        try:
            connection.sendall(bytes_sent)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answer = read_answer(connection, "GET")
    assert answer is None or 400 <= answer.status < 600
    assert_nothing_there(s3, bucket)

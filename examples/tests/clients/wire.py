"""A second, independent signer and a raw socket: for requests that no well-behaved client would send.

Rules: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import datetime
import hashlib
import hmac
import socket
import ssl
from urllib.parse import quote, urlsplit

REGION = "us-east-1"


class Answer:
    """A reply: status code, header names in lower case, body."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def code(self):
        """The S3 error code of the body, or None."""
        start, end = self.body.find(b"<Code>"), self.body.find(b"</Code>")
        return self.body[start + 6 : end].decode() if 0 <= start < end else None


def sha256_hex(body):
    return hashlib.sha256(body).hexdigest()


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signing_key(secret_key, day, region=REGION):
    key = _hmac(("AWS4" + secret_key).encode(), day)
    for part in (region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def canonical_query(pairs):
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def signed_headers(method, host, path, query, headers, content_sha256, access_key, secret_key, now=None):
    """The headers of a request, signed. `path` is the encoded path as it goes over the wire."""
    now = now or datetime.datetime.now(datetime.timezone.utc)
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    signed = {name.lower(): value for name, value in headers.items()}
    signed |= {"host": host, "x-amz-date": stamp, "x-amz-content-sha256": content_sha256}
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{signed[name].strip()}\n" for name in sorted(signed))
    request = "\n".join([method, path, canonical_query(query), lines, names, content_sha256])
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, sha256_hex(request.encode())])
    signature = hmac.new(signing_key(secret_key, day), text.encode(), hashlib.sha256).hexdigest()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return signed


def chunk_signatures(chunks, seed, secret_key, stamp):
    """The signatures of a STREAMING-AWS4-HMAC-SHA256-PAYLOAD body, the final empty chunk included.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
    """
    day, empty = stamp[:8], sha256_hex(b"")
    scope = f"{day}/{REGION}/s3/aws4_request"
    previous, signatures = seed, []
    for chunk in [*chunks, b""]:
        text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", stamp, scope, previous, empty, sha256_hex(chunk)])
        previous = hmac.new(signing_key(secret_key, day), text.encode(), hashlib.sha256).hexdigest()
        signatures.append(previous)
    return signatures


class Wire:
    """Sends exact bytes to the server under test."""

    def __init__(self, endpoint, access_key, secret_key, authority=None):
        parts = urlsplit(endpoint)
        self.tls = ssl.create_default_context(cafile=authority) if parts.scheme == "https" else None
        self.host, self.address = parts.netloc, (parts.hostname, parts.port)
        self.access_key, self.secret_key = access_key, secret_key

    def connect(self, timeout=30):
        connection = socket.create_connection(self.address, timeout=timeout)
        return self.tls.wrap_socket(connection, server_hostname=self.address[0]) if self.tls else connection

    def sign(self, method, path, query=(), headers=None, content_sha256=None, **changes):
        return signed_headers(
            method, self.host, path, query, headers or {}, content_sha256 or sha256_hex(b""),
            changes.get("access_key", self.access_key), changes.get("secret_key", self.secret_key),
            changes.get("now"),
        )

    def request(self, method, path, query=(), headers=None, body=b"", content_sha256=None, **changes):
        """One signed request with a body of known length."""
        given = dict(headers or {})
        given.setdefault("content-length", str(len(body)))
        signed = self.sign(method, path, query, given, content_sha256 or sha256_hex(body), **changes)
        return self.send(method, path, query, signed, body)

    def send(self, method, path, query, headers, body, stop_sending=False):
        """Sends these headers and these bytes, whatever they claim, and reads one reply.

        `stop_sending` closes the sending half afterwards, so that a body can end short. The reply is None when
        the server closes the connection without one.
        """
        target = path + ("?" + canonical_query(query) if query else "")
        head = f"{method} {target} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n"
        with self.connect() as connection:
            try:
                connection.sendall(head.encode() + body)
                if stop_sending:
                    connection.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before the whole body was sent; the reply may still be there
            return read_answer(connection, method)


def read_answer(connection, method):
    received = b""
    try:
        while b"\r\n\r\n" not in received:
            block = connection.recv(65536)
            if not block:
                return None
            received += block
        head, body = received.split(b"\r\n\r\n", 1)
        status_line, *lines = head.decode("latin-1").split("\r\n")
        status = int(status_line.split(" ")[1])
        headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        if status == 100:
            return read_answer(connection, method)
        if method == "HEAD" or status in (204, 304):
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            while not body.endswith(b"0\r\n\r\n"):
                block = connection.recv(65536)
                if not block:
                    break
                body += block
        else:
            length = int(headers.get("content-length", "0"))
            while len(body) < length:
                block = connection.recv(65536)
                if not block:
                    break
                body += block
        return Answer(status, headers, body)
    except ConnectionResetError:
        return None

"""A relay between the clients and the server that keeps the requests it sees, byte for byte.

    client ──bytes──► Relay ──the same bytes──► server
                        │
                        └─► one request of each kind, in DIRECTORY/CLIENT.requests

`cargo xtask clients --record DIRECTORY` puts it in front of the server for a whole run (with CROSSDOCK_FRONT=https over TLS). What it keeps, protocol tests parse
and fuzz targets start from (`s3-api/src/protocol/captures.rs` reads it):

    @ SECONDS LENGTH http|https LF, LENGTH bytes of request, LF, and so on

SECONDS is when the request came, since 1970: its signature holds then. Kept is what the server did, if it is short: once for
each client, operation, way of sending the body and set of headers; over TLS only what has a body. Only the release of the kernel, which SDKs tell, is replaced, where
it is not signed.
"""

import collections
import pathlib
import re
import socket
import ssl
import threading
import time
from urllib.parse import urlsplit

# Longer requests show nothing that these do not.
REQUEST_BYTES_MAX = 2500
# How many requests of one client and operation are kept at most, whatever they differ in.
KEPT_MAX = 3

# The first pattern that is found in a User-Agent names the client. s3cmd sends none.
CLIENTS = [
    ("aws-sdk-js", "aws-sdk-js/"), ("fsspec", "aiobotocore/"), ("aws-cli", "aws-cli/"), ("boto3-crt", "awscrt#"),
    ("boto3", "boto3/"), ("s3torchconnector", "s3torchconnector|mountpoint|crts3"), ("pyarrow", "aws-sdk-cpp/"),
    ("obstore", "object_store/"), ("minio-py", "minio-py/"), ("restic", "minio-go/"), ("rclone", "rclone/"),
    ("s3fs", "s3fs/"), ("presigned", "python-urllib/"), ("s3cmd", "^$"),
]

# Parameters that name an operation, besides those without a value.
NAMING = {"uploadId", "list-type", "attributes", "delete"}


class Request:
    """One request, taken apart just far enough to know where it ends."""

    def __init__(self):
        self.seconds, self.bytes, self.pending = int(time.time()), b"", b""
        self.headers, self.status, self.is_whole = None, None, False
        # Bytes of the body, or of its chunk, that are still to come; and whether another chunk follows.
        self.left, self.is_chunked, self.in_trailer = 0, False, False

    def take(self, block):
        """Takes the request's bytes off the front of `block` and returns what is behind it."""
        before = len(self.pending)
        self.pending += block
        while not self.is_whole:
            taken = self._step()
            if taken == 0:
                self._keep(block)
                return b""
            self.pending = self.pending[taken:]
        rest = self.pending
        self._keep(block[: len(block) - len(rest)])
        assert before + len(block) >= len(rest)
        return rest

    def _keep(self, block):
        if len(self.bytes) <= REQUEST_BYTES_MAX:
            self.bytes += block

    def _step(self):
        """How many of the pending bytes the next piece takes; none if it is not there."""
        if self.headers is None:
            end = self.pending.find(b"\r\n\r\n")
            if end < 0:
                return 0
            self.line, *lines = self.pending[:end].decode("latin-1").split("\r\n")
            self.headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
            self.is_chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
            self.left = 0 if self.is_chunked else int(self.headers.get("content-length", 0))
            self.is_whole = not self.is_chunked and self.left == 0
            return end + 4
        if self.left:
            taken = min(self.left, len(self.pending))
            self.left -= taken
            self.is_whole = not self.is_chunked and self.left == 0
            return taken
        end = self.pending.find(b"\r\n")
        if end < 0:
            return 0
        if self.in_trailer:
            self.is_whole = end == 0
        else:
            size = int(self.pending[:end].split(b";")[0], 16)
            self.in_trailer, self.left = size == 0, size + 2 if size else 0
        return end + 2

    def client(self):
        agent = self.headers.get("user-agent", "")
        return next((name for name, pattern in CLIENTS if re.search(pattern, agent, re.IGNORECASE)), None)

    def operation(self):
        """What tells requests of different operations apart."""
        method, target, _ = self.line.split(" ")
        path, _, query = target.partition("?")
        names = [pair.partition("=") for pair in query.split("&") if pair]
        named = {name for name, _, value in names if value == "" or name in NAMING}
        return method, min(path.strip("/").count("/"), 1), path == "/", frozenset(named), "x-amz-copy-source" in self.headers

    def kind(self):
        """What tells the ways apart in which a client asks for one operation."""
        _, target, _ = self.line.split(" ")
        payload = self.headers.get("x-amz-content-sha256", "")
        needs_encoding = re.search(r"[^\w/.~-]", target.partition("?")[0]) is not None
        return payload[:40] if len(payload) != 64 else "hash", needs_encoding, frozenset(self.headers)


def anonymous(request):
    """The request's bytes without what it says of this machine's kernel."""
    if re.search(r"SignedHeaders=[^,]*\buser-agent\b", request.headers.get("authorization", "")):
        return request.bytes
    return re.sub(rb"(?i)(\r\nuser-agent: [^\r]*\bos/linux#)[^ \r]+", rb"\g<1>6.1.0", request.bytes, count=1)


class Relay:
    """Listens on a port of its own until it is closed, and then writes what it kept."""

    def __init__(self, server, tls_options=()):
        """Ends TLS if there are options for it, as `server.certificates` makes them."""
        parts = urlsplit(server)
        self.server, self.tls = (parts.hostname, parts.port), None
        if tls_options:
            given = dict(zip(tls_options[::2], tls_options[1::2]))
            self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.tls.load_cert_chain(given["--tls-cert"], given["--tls-key"])
        self.scheme = "https" if self.tls else "http"
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"{self.scheme}://127.0.0.1:{self.listener.getsockname()[1]}"
        self.lock, self.kept = threading.Lock(), collections.defaultdict(dict)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            if self.tls:
                client = self.tls.wrap_socket(client, server_side=True)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = socket.create_connection(self.server)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ssl.SSLError):
            client.close()
            return
        unanswered = collections.deque()
        threading.Thread(target=self._replies, args=(server, client, unanswered), daemon=True).start()
        request = None
        try:
            while block := client.recv(65536):
                rest = block
                while rest:
                    if request is None:
                        request = Request()
                        unanswered.append(request)
                    rest = request.take(rest)
                    if request.is_whole:
                        self._consider(request)
                        request = None
                server.sendall(block)
            server.shutdown(socket.SHUT_WR)
        except (OSError, ValueError):
            server.close()

    def _replies(self, server, client, unanswered):
        """Passes replies on, and reads their first lines. No client here sends a request before it has its reply."""
        head = b""
        try:
            while block := server.recv(65536):
                if unanswered:
                    head += block
                    while b"\r\n\r\n" in head:
                        first, head = head.split(b"\r\n\r\n", 1)
                        status = int(first.split(b" ")[1])
                        if status >= 200:
                            request, head = unanswered.popleft(), b""
                            request.status = status
                            self._consider(request)
                            break
                client.sendall(block)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        finally:
            client.close()

    def _consider(self, request):
        """Keeps a request that is whole and done, if it is the first of its kind."""
        with self.lock:
            done = request.is_whole and request.status is not None and request.status < 400
            if not done or len(request.bytes) > REQUEST_BYTES_MAX or request.client() is None:
                return
            # What differs over TLS is how bodies are sent.
            if self.tls and request.operation()[0] not in ("PUT", "POST"):
                return
            kinds = self.kept[request.client()].setdefault(request.operation(), {})
            if len(kinds) < KEPT_MAX:
                kinds.setdefault(request.kind(), request)

    def close(self, directory):
        """Writes one file for each client that was seen, in place of what is there; other clients' files stay."""
        self.listener.close()
        with self.lock:
            for client, operations in self.kept.items():
                requests = [request for kinds in operations.values() for request in kinds.values()]
                name = f"{client}-{self.scheme}" if self.tls else client
                with (pathlib.Path(directory) / f"{name}.requests").open("wb") as file:
                    for request in requests:
                        wire = anonymous(request)
                        file.write(f"@ {request.seconds} {len(wire)} {self.scheme}\n".encode() + wire + b"\n")

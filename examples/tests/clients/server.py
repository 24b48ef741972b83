"""The server under test: a real process on a port of its own, with a data directory of its own."""

import os
import re
import select
import signal
import subprocess
import time

import trustme

READY = re.compile(r"^ready (https?://\S+)")
START_SECONDS = 60
STOP_SECONDS = 60


def certificates(directory, *names):
    """Makes an authority and a certificate for this host: the authority's file, and the options of a server that shows it."""
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1", "localhost", *names)
    authority.cert_pem.write_to_path(str(directory / "authority.pem"))
    (directory / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    made.private_key_pem.write_to_path(str(directory / "key.pem"))
    options = ["--tls-cert", str(directory / "cert.pem"), "--tls-key", str(directory / "key.pem")]
    return str(directory / "authority.pem"), options


class Server:
    """Starts the program, waits for its `ready` line, and stops it the way an operator would."""

    def __init__(self, program, data, access_key, secret_key, extra=(), stderr=None):
        self.output = []
        arguments = [program, "--listen", "127.0.0.1:0", "--data", str(data), *extra]
        environment = dict(os.environ)
        # The server takes one identity or a file of them.
        if "--users" not in extra:
            environment |= {"CROSSDOCK_ACCESS_KEY": access_key, "CROSSDOCK_SECRET_KEY": secret_key}
        self.process = subprocess.Popen(
            arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, bufsize=0
        )
        try:
            self.address = self._wait_until_ready()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        pending = b""
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.process.stdout], [], [], 0.2)
            if not readable:
                continue
            block = os.read(self.process.stdout.fileno(), 65536)
            if not block:
                raise RuntimeError(f"the server ended with {self.process.wait()} before it was ready: {self.output}")
            *lines, pending = (pending + block).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")
                self.output.append(text)
                found = READY.match(text)
                if found:
                    return found.group(1)
        raise RuntimeError(f"the server was not ready after {START_SECONDS} s: {self.output}")

    def stop(self):
        """Asks the server to drain and close; it must end by itself, without an error."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=STOP_SECONDS)
        self.process.stdout.close()
        return code

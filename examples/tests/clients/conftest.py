"""Fixtures: one server for the whole run, one bucket for each test."""

import os
import shutil
import uuid

import boto3
import pytest
from botocore.config import Config

from payloads import payload, sha256  # noqa: F401 - the tests take them from here
from recorder import Relay
from server import Server, certificates
from wire import REGION, Wire

ACCESS_KEY = os.environ.get("CROSSDOCK_ACCESS_KEY", "CROSSDOCKCLIENTTESTS")
SECRET_KEY = os.environ.get("CROSSDOCK_SECRET_KEY", "a-secret/that+needs=encoding")

# Where clients look for the authority that they are to trust: SDKs of Amazon, OpenSSL and Go, curl, Node, rclone, restic.
AUTHORITY_VARIABLES = [
    "AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "RCLONE_CA_CERT", "RESTIC_CACERT",
]


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """The file of a certificate authority of this run, and options for a server that it vouches for; nothing over HTTP."""
    if os.environ.get("CROSSDOCK_FRONT") != "https":
        return None, ()
    made = certificates(tmp_path_factory.mktemp("certificates"))
    # Libraries within this process find it here.
    os.environ["SSL_CERT_FILE"] = made[0]
    return made


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory, authority):
    """The address of the server: one that runs already, or the program of this tree, started and stopped."""
    given = os.environ.get("CROSSDOCK_ENDPOINT")
    if given:
        yield given
        return
    program = os.environ.get("CROSSDOCK_SERVER")
    if not program:
        pytest.fail("set CROSSDOCK_SERVER to the built program, or run `cargo xtask clients`")
    data = tmp_path_factory.mktemp("server") / "data"
    record = os.environ.get("CROSSDOCK_RECORD")
    # A relay has to see what it records, so it ends TLS itself.
    server = Server(program, data, ACCESS_KEY, SECRET_KEY, () if record else authority[1])
    relay = Relay(server.address, authority[1]) if record else None
    yield relay.address if relay else server.address
    if relay:
        relay.close(record)
    code = server.stop()
    shutil.rmtree(data, ignore_errors=True)
    assert code == 0, f"the server ended with {code} after SIGTERM; it must drain and close cleanly"


@pytest.fixture(scope="session")
def s3(endpoint, authority):
    """A boto3 client with the default integrity settings, and no retry that would hide a failure."""
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY, verify=authority[0],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=120),
    )


@pytest.fixture(scope="session")
def wire(endpoint, authority):
    return Wire(endpoint, ACCESS_KEY, SECRET_KEY, authority[0])


@pytest.fixture
def bucket(s3):
    """A fresh bucket, emptied and deleted afterwards: what a test leaves behind must be deletable."""
    name = f"test-{uuid.uuid4()}"
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for entry in page.get("Versions", []) + page.get("DeleteMarkers", []):
            s3.delete_object(Bucket=name, Key=entry["Key"], VersionId=entry["VersionId"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def client_environment(endpoint, authority, tmp_path_factory):
    """What a command-line client is started with: our credentials and nothing of the user's own settings."""
    home = tmp_path_factory.mktemp("home")
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    if authority[0]:
        keep |= dict.fromkeys(AUTHORITY_VARIABLES, authority[0])
    return keep | {
        "HOME": str(home), "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": endpoint, "AWS_MAX_ATTEMPTS": "1",
        "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1",
    }

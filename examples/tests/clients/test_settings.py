"""What an operator sets, on a server of the test's own: users, certificates, domains, limits, the access log."""

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from conftest import ACCESS_KEY, SECRET_KEY, payload
from server import Server, certificates
from test_server import SMALL, program  # noqa: F401 - a fixture
from wire import REGION, Wire

pytestmark = pytest.mark.hostile

# Files are looked at every other second; a busy machine may take its time.
PATIENCE_SECONDS = 30


def client(
    address, access_key=ACCESS_KEY, secret_key=SECRET_KEY, verify=None, style="path", endpoint=None, region=REGION
):
    return boto3.client(
        "s3", endpoint_url=endpoint or address, region_name=region, aws_access_key_id=access_key,
        aws_secret_access_key=secret_key, verify=verify,
        config=Config(
            retries={"total_max_attempts": 1}, s3={"addressing_style": style}, signature_version="s3v4", read_timeout=60
        ),
    )


@contextlib.contextmanager
def serving(program, data, *options, stderr=None):  # noqa: F811
    server = Server(program, data, ACCESS_KEY, SECRET_KEY, [*SMALL, *options], stderr=stderr)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0


def becomes(look):
    """Waits until `look` says so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, "nothing changed"
        time.sleep(0.1)


def may(address, access_key):
    try:
        client(address, access_key, "secret").list_buckets()
        return True
    except ClientError as error:
        assert error.response["Error"]["Code"] in ("InvalidAccessKeyId", "AccessDenied"), error
        return False


def users(*keys):
    return "".join(f"[[user]]\naccess-key = '{key}'\nsecret-key = 'secret'\n" for key in keys)


def test_users_come_and_go_while_the_server_runs(program, tmp_path):  # noqa: F811
    """The file is read again when it changes, and at once on SIGHUP; one that is broken changes nothing."""
    file = tmp_path / "users.toml"
    file.write_text(users("one"))
    with serving(program, tmp_path / "data", "--users", str(file)) as server:
        assert may(server.address, "one") and not may(server.address, "two")
        file.write_text(users("one", "two"))
        becomes(lambda: may(server.address, "two"))
        file.write_text(users("two") + "[[user]]\n")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(3)
        assert may(server.address, "one") and may(server.address, "two")
        file.write_text(users("two"))
        server.process.send_signal(signal.SIGHUP)
        becomes(lambda: not may(server.address, "one"))
        assert may(server.address, "two")


def test_a_certificate_is_renewed_without_dropping_anybody(program, tmp_path):  # noqa: F811
    """A connection that lives goes on; who connects after SIGHUP sees the new certificate; a broken file changes nothing.

    The log says so, and that every user of the machine may read the key, where that is so.
    """
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    authority, options = certificates(tmp_path / "one")
    other, renewed = certificates(tmp_path / "two")
    os.chmod(options[3], 0o640)
    log = tmp_path / "log"
    with open(log, "wb") as said, serving(program, tmp_path / "data", *options, stderr=said) as server:
        before = client(server.address, verify=authority)
        before.create_bucket(Bucket="kept")
        before.put_object(Bucket="kept", Key="object", Body=payload(100_000))
        assert "chmod" not in log.read_text()
        wire = Wire(server.address, ACCESS_KEY, SECRET_KEY, authority)
        with wire.connect() as connection:
            for place in (1, 3):
                with open(renewed[place], "rb") as source, open(options[place], "wb") as target:
                    target.write(source.read())
            os.chmod(options[3], 0o644)
            server.process.send_signal(signal.SIGHUP)

            def is_renewed():
                try:
                    client(server.address, verify=other).list_buckets()
                    return True
                except BotoCoreError:
                    return False

            becomes(is_renewed)
            connection.sendall(b"GET /absent HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 404")
        becomes(lambda: f"{options[3]}" in log.read_text() and "chmod o-rwx" in log.read_text())
        # It may have been said before, in between the two files.
        refusal = "the certificate: not as it must be, and stays as it was"
        refusals = log.read_text().count(refusal)
        with open(options[3], "w") as target:
            target.write("no key")
        server.process.send_signal(signal.SIGHUP)
        becomes(lambda: log.read_text().count(refusal) > refusals)
        got = client(server.address, verify=other).get_object(Bucket="kept", Key="object")
        assert got["Body"].read() == payload(100_000)


def test_plain_http_to_the_port_of_https_is_told_so(program, tmp_path):  # noqa: F811
    """A client with the wrong scheme reads what to write instead, and old versions of TLS are not spoken."""
    authority, options = certificates(tmp_path)
    with serving(program, tmp_path / "data", *options) as server:
        with pytest.raises(ClientError) as refused:
            client(server.address.replace("https", "http")).list_buckets()
        assert "https://" in refused.value.response["Error"]["Message"]
        wire = Wire(server.address, ACCESS_KEY, SECRET_KEY, authority)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(authority)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(wire.address, timeout=PATIENCE_SECONDS) as connection:
            with pytest.raises(ssl.SSLError):
                old.wrap_socket(connection, server_hostname="127.0.0.1")
        client(server.address, verify=authority).list_buckets()


def test_keys_are_not_agreed_upon_anew(program, tmp_path):  # noqa: F811
    """Renegotiation, which only TLS 1.2 has, is refused with an alert, and whoever comes then is served."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is missing")
    authority, options = certificates(tmp_path)
    with serving(program, tmp_path / "data", *options) as server:
        command = [openssl, "s_client", "-tls1_2", "-CAfile", authority, "-connect", server.address.removeprefix("https://")]
        peer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = b""
        while b"Verify return code: 0" not in said:
            block = os.read(peer.stdout.fileno(), 65536)
            assert block, said
            said += block
        # The line "R" makes it ask.
        said, _ = peer.communicate(b"R\n", timeout=PATIENCE_SECONDS)
        assert b"RENEGOTIATING" in said and b"no renegotiation" in said, said
        client(server.address, verify=authority).list_buckets()


def test_buckets_are_names_of_hosts_below_a_domain(program, tmp_path, monkeypatch):  # noqa: F811
    """Virtual-hosted style: names with dots, keys, uploads, presigned addresses and where a finished upload says it is."""
    with serving(program, tmp_path / "data", "--domain", "s3.test", "--domain", "test") as server:
        port = int(server.address.rsplit(":", 1)[1])
        known = socket.getaddrinfo

        def lookup(host, *rest, **named):
            name = host.decode() if isinstance(host, bytes) else host
            return known("127.0.0.1" if name.endswith("s3.test") else host, *rest, **named)

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        s3 = client(None, style="virtual", endpoint=f"http://s3.test:{port}")
        for bucket in ("photos", "my.photos"):
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="a/b c", Body=b"hello")
            assert s3.get_object(Bucket=bucket, Key="a/b c")["Body"].read() == b"hello"
            assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/b c"]
            s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "a/b c"})
        address = s3.generate_presigned_url("get_object", Params={"Bucket": "photos", "Key": "copy"})
        assert address.startswith(f"http://photos.s3.test:{port}/copy")
        upload = s3.create_multipart_upload(Bucket="photos", Key="big")["UploadId"]
        part = s3.upload_part(Bucket="photos", Key="big", UploadId=upload, PartNumber=1, Body=b"x")
        done = s3.complete_multipart_upload(
            Bucket="photos", Key="big", UploadId=upload,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
        assert done["Location"] == f"http://photos.s3.test:{port}/big"
        assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"photos", "my.photos"}
        # Path style goes on working, for the same buckets.
        assert client(server.address).get_object(Bucket="my.photos", Key="copy")["Body"].read() == b"hello"


def test_buckets_are_listed_in_pages(program, tmp_path):  # noqa: F811
    """As many as are asked for, the next from where the last page ended, and those of a prefix."""
    with serving(program, tmp_path / "data") as server:
        s3 = client(server.address)
        names = [f"{kind}-{number}" for kind in ("a", "b") for number in range(5)]
        for name in names:
            s3.create_bucket(Bucket=name)
        pages = [page for page in s3.get_paginator("list_buckets").paginate(PaginationConfig={"PageSize": 3})]
        assert [len(page["Buckets"]) for page in pages] == [3, 3, 3, 1]
        assert [bucket["Name"] for page in pages for bucket in page["Buckets"]] == names
        assert [bucket["Name"] for bucket in s3.list_buckets(Prefix="b-", MaxBuckets=2)["Buckets"]] == ["b-0", "b-1"]
        assert s3.list_buckets(BucketRegion="eu-west-3").get("Buckets", []) == []


def test_any_region_will_do_unless_one_is_set(program, tmp_path):  # noqa: F811
    """Clients set to another region make, write and read buckets; with --region they are told which one it is."""
    with serving(program, tmp_path / "any") as server:
        for region in ("eu-west-1", "auto"):
            s3, name = client(server.address, region=region), f"in-{region}"
            s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
            s3.put_object(Bucket=name, Key="k", Body=b"x")
            assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
            assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"
            assert s3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
            # Where they are said to be is where they are looked for.
            assert name in [bucket["Name"] for bucket in s3.list_buckets(BucketRegion="us-east-1")["Buckets"]]
            assert s3.list_buckets(BucketRegion=region).get("Buckets", []) == []
    with serving(program, tmp_path / "one", "--region", "eu-west-1") as server:
        client(server.address, region="eu-west-1").create_bucket(
            Bucket="here", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        with pytest.raises(ClientError) as refused:
            client(server.address).list_buckets()
        error = refused.value.response["Error"]
        assert (error["Code"], error["Region"]) == ("AuthorizationHeaderMalformed", "eu-west-1")


def test_long_work_is_answered_before_it_is_done(program, tmp_path):  # noqa: F811
    """Copies, parts that are copies, and completions, answered at once and in pieces: the SDK reads what came of them."""
    with serving(program, tmp_path / "data", "--early-reply", "1us") as server:
        s3, source = client(server.address), {"Bucket": "long", "Key": "source"}
        s3.create_bucket(Bucket="long")
        body = os.urandom(6 << 20)
        s3.put_object(Bucket="long", Key="source", Body=body)
        copied = s3.copy_object(Bucket="long", Key="copy", CopySource=source)
        assert copied["ResponseMetadata"]["HTTPHeaders"].get("transfer-encoding") == "chunked"
        assert copied["CopyObjectResult"]["ETag"] == s3.head_object(Bucket="long", Key="copy")["ETag"]
        upload = s3.create_multipart_upload(Bucket="long", Key="whole")["UploadId"]
        of_upload = {"Bucket": "long", "Key": "whole", "UploadId": upload}
        tag = s3.upload_part_copy(PartNumber=1, CopySource=source, **of_upload)["CopyPartResult"]["ETag"]
        for tags, code in ([f'"{"0" * 32}"'], "InvalidPart"), ([tag], None):
            parts = {"Parts": [{"PartNumber": number + 1, "ETag": tag} for number, tag in enumerate(tags)]}
            if code:
                with pytest.raises(ClientError) as refused:
                    s3.complete_multipart_upload(MultipartUpload=parts, **of_upload)
                assert refused.value.response["Error"]["Code"] == code
            else:
                s3.complete_multipart_upload(MultipartUpload=parts, **of_upload)
        assert s3.get_object(Bucket="long", Key="whole")["Body"].read() == body
        with pytest.raises(ClientError) as refused:
            s3.copy_object(Bucket="long", Key="copy", CopySource=source, IfNoneMatch="*")
        assert refused.value.response["Error"]["Code"] == "PreconditionFailed"


def test_each_request_is_logged_with_its_identifiers(program, tmp_path):  # noqa: F811
    """Who asked for what, what became of it, under the identifiers that the client was told; no secret is in it."""
    log = tmp_path / "log"
    with open(log, "wb") as target, serving(program, tmp_path / "data", "--access-log", stderr=target) as server:
        s3 = client(server.address)
        s3.create_bucket(Bucket="logged")
        put = s3.put_object(Bucket="logged", Key="odd\nname", Body=b"x")
        wire = Wire(server.address, ACCESS_KEY, SECRET_KEY)
        absent = wire.request("GET", "/logged/absent")
        s3.get_object(Bucket="logged", Key="odd\nname")
        address = s3.generate_presigned_url("get_object", Params={"Bucket": "logged", "Key": "odd\nname"})
        assert "Signature" in address
        path, query = address.split(server.address, 1)[1].split("?", 1)
        pairs = [tuple(pair.split("=", 1)) for pair in query.split("&")]
        assert pairs and wire.send("GET", path + "?" + query, (), {"host": wire.host}, b"").status == 200
    lines = log.read_text().splitlines()

    def line(request):
        found = [text for text in lines if request in text]
        assert len(found) == 1, found
        return found[0]

    stored = line(put["ResponseMetadata"]["RequestId"])
    for part in ("operation=\"PutObject\"", "status=200", "requester=\"arn:aws:iam::", "odd%0Aname"):
        assert part in stored, stored
    missing = line(absent.headers["x-amz-request-id"])
    for part in ("operation=\"GetObject\"", "status=404", "code=\"NoSuchKey\"", absent.headers["x-amz-id-2"]):
        assert part in missing, missing
    assert SECRET_KEY not in log.read_text() and "Signature=" not in log.read_text()


def test_clients_are_held_to_the_limits_that_are_set(program, tmp_path):  # noqa: F811
    """Connections, heads and bodies that take too long or too much: told so, closed, and everybody else is served."""
    limits = ["--max-connections", "20", "--head-timeout", "1s", "--body-timeout", "1s", "--max-head", "4KiB"]
    (tmp_path / "limits.toml").write_text("idle-timeout = '1s'\n")
    with serving(program, tmp_path / "data", *limits, "--config", str(tmp_path / "limits.toml")) as server:
        s3, wire = client(server.address), Wire(server.address, ACCESS_KEY, SECRET_KEY)
        s3.create_bucket(Bucket="limited")
        s3.close()
        time.sleep(2)
        with contextlib.ExitStack() as stack:
            connections = [stack.enter_context(wire.connect()) for _ in range(20)]
            refused = stack.enter_context(wire.connect())
            assert b"<Code>SlowDown</Code>" in refused.recv(4096)
            # None of them says anything, and none is kept.
            assert all(connection.recv(1) == b"" for connection in connections)
        with wire.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert b"<Code>RequestTimeout</Code>" in connection.recv(4096)
        with wire.connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 8000)
            answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 4") and b"request head too long" in answer
        signed = wire.sign("PUT", "/limited/k", (), {"content-length": "1000"}, "UNSIGNED-PAYLOAD")
        with wire.connect() as connection:
            lines = "".join(f"{name}: {value}\r\n" for name, value in signed.items())
            connection.sendall(f"PUT /limited/k HTTP/1.1\r\n{lines}\r\nbegun".encode())
            assert b"<Code>RequestTimeout</Code>" in connection.recv(4096)
        client(server.address).put_object(Bucket="limited", Key="k", Body=b"x")


def test_the_token_service_is_said_to_be_missing(program, tmp_path):  # noqa: F811
    """A client of STS shows in words that there is none, and does not ask again and again."""
    with serving(program, tmp_path / "data") as server:
        sts = boto3.client(
            "sts", endpoint_url=server.address, region_name=REGION, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        with pytest.raises(ClientError) as refused:
            sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="session")
        error = refused.value.response
        assert error["Error"]["Code"] == "NotImplemented" and "Security Token Service" in error["Error"]["Message"]
        assert error["ResponseMetadata"].get("RetryAttempts", 0) == 0
        with pytest.raises(ClientError) as token:
            boto3.client(
                "s3", endpoint_url=server.address, region_name=REGION, aws_access_key_id=ACCESS_KEY,
                aws_secret_access_key=SECRET_KEY, aws_session_token="a-token",
            ).list_buckets()
        assert token.value.response["Error"]["Code"] == "InvalidToken"

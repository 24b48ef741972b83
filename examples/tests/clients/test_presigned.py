"""Requests signed in the URL: what a browser or curl can send without the secret key."""

import urllib.error
import urllib.request

import pytest

from conftest import payload

pytestmark = pytest.mark.presigned


def call(method, url, body=None, headers=None):
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, reply.read(), dict(reply.headers)
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read(), dict(refused.headers)


def url(s3, operation, seconds=300, **arguments):
    return s3.generate_presigned_url(operation, Params=arguments, ExpiresIn=seconds)


@pytest.fixture
def signing(endpoint, authority):
    """boto3 signs URLs with the old SigV2 for some endpoints unless told otherwise."""
    import boto3
    from botocore.config import Config

    from conftest import ACCESS_KEY, SECRET_KEY
    from wire import REGION

    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY, verify=authority[0],
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@pytest.mark.parametrize("key", ["plain", "a b+c%d/é", "//x"])
def test_a_url_reads_and_writes_one_object(signing, bucket, key):
    """PUT, GET, HEAD and DELETE work through a URL, for keys that need encoding as well."""
    body = payload(20000)
    code, text, _ = call("PUT", url(signing, "put_object", Bucket=bucket, Key=key), body)
    assert code == 200, text
    assert call("GET", url(signing, "get_object", Bucket=bucket, Key=key))[:2] == (200, body)
    assert call("HEAD", url(signing, "head_object", Bucket=bucket, Key=key))[0] == 200
    assert call("DELETE", url(signing, "delete_object", Bucket=bucket, Key=key))[0] == 204
    assert call("GET", url(signing, "get_object", Bucket=bucket, Key=key))[0] == 404


def test_a_url_changes_the_headers_of_the_reply(signing, bucket):
    """The response-* parameters that the signature covers override the headers of a GET."""
    signing.put_object(Bucket=bucket, Key="object", Body=b"x")
    address = url(
        signing, "get_object", Bucket=bucket, Key="object", ResponseContentType="text/x-other",
        ResponseContentDisposition='attachment; filename="a b.txt"', ResponseCacheControl="no-store",
    )
    code, _, headers = call("GET", address)
    headers = {name.lower(): value for name, value in headers.items()}
    assert code == 200
    assert headers["content-type"] == "text/x-other"
    assert headers["content-disposition"] == 'attachment; filename="a b.txt"'
    assert headers["cache-control"] == "no-store"


def test_a_changed_url_is_refused(signing, bucket):
    """Another key, another method, an added parameter and another lifetime all break the signature."""
    signing.put_object(Bucket=bucket, Key="object", Body=b"x")
    signing.put_object(Bucket=bucket, Key="secret", Body=b"y")
    address = url(signing, "get_object", Bucket=bucket, Key="object")
    assert call("GET", address)[0] == 200
    changed = [
        ("GET", address.replace("/object?", "/secret?")),
        ("DELETE", address),
        ("GET", address + "&response-content-type=text/html"),
        ("GET", address.replace("X-Amz-Expires=300", "X-Amz-Expires=3000")),
    ]
    for method, broken in changed:
        code, text, _ = call(method, broken)
        assert code == 403 and b"SignatureDoesNotMatch" in text, (method, broken)
    assert call("GET", address)[0] == 200


def test_a_url_ends(signing, bucket):
    """A URL past its lifetime is AccessDenied."""
    import time

    signing.put_object(Bucket=bucket, Key="object", Body=b"x")
    address = url(signing, "get_object", seconds=1, Bucket=bucket, Key="object")
    time.sleep(2.5)
    code, text, _ = call("GET", address)
    assert code == 403 and b"AccessDenied" in text


def form(fields, file):
    """The body of a form, and its Content-Type."""
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    parts.append('--b\r\nContent-Disposition: form-data; name="file"; filename="photo.txt"\r\n\r\n')
    return "".join(parts).encode() + file + b"\r\n--b--\r\n", {"Content-Type": "multipart/form-data; boundary=b"}


def test_a_form_uploads_what_its_policy_allows(signing, bucket):
    """A form as the SDK signs it stores one object by its conditions; what goes beyond them is refused, and nothing stored."""
    conditions = [["starts-with", "$key", "in/"], ["content-length-range", 1, 1000], {"x-amz-meta-colour": "blue"}]
    made = signing.generate_presigned_post(
        bucket, "in/${filename}", Fields={"x-amz-meta-colour": "blue"}, Conditions=conditions, ExpiresIn=300
    )
    code, text, headers = call("POST", made["url"], *form(made["fields"], b"hello"))
    assert code == 204, text
    got = signing.get_object(Bucket=bucket, Key="in/photo.txt")
    assert (got["Body"].read(), got["Metadata"]) == (b"hello", {"colour": "blue"})
    assert got["ETag"] in [value for name, value in headers.items() if name.lower() == "etag"]
    for changed, file, refusal in [
        ({"key": "out/photo.txt"}, b"x", (403, b"AccessDenied")),
        ({"x-amz-meta-colour": "red"}, b"x", (403, b"AccessDenied")),
        ({"x-amz-meta-shape": "round"}, b"x", (403, b"AccessDenied")),
        ({"x-amz-signature": "0" * 64}, b"x", (403, b"SignatureDoesNotMatch")),
        ({}, b"x" * 1001, (400, b"EntityTooLarge")),
        ({}, b"", (400, b"EntityTooSmall")),
    ]:
        code, text, _ = call("POST", made["url"], *form(made["fields"] | {"key": "in/second"} | changed, file))
        assert code == refusal[0] and refusal[1] in text, (changed, code, text)
    assert [entry["Key"] for entry in signing.list_objects_v2(Bucket=bucket)["Contents"]] == ["in/photo.txt"]

"""s3torchconnectorclient, the half of s3torchconnector that speaks S3: Mountpoint's client on the AWS Common Runtime.

The other half hands what it reads to PyTorch, which is a thousand times its size and no part of what is tested here. The
client has no conditional requests.
"""

import pytest

from conftest import payload
from wire import REGION

pytestmark = pytest.mark.torch

MIB = 1024 * 1024


@pytest.fixture
def torch(endpoint, client_environment, monkeypatch):
    module = pytest.importorskip("s3torchconnectorclient._mountpoint_s3_client")
    for name, value in client_environment.items():
        monkeypatch.setenv(name, value)
    return module.MountpointS3Client(
        region=REGION, endpoint=endpoint, force_path_style=True, max_attempts=1, part_size=5 * MIB,
        throughput_target_gbps=1.0,
    )


def put(torch, bucket, key, body):
    stream = torch.put_object(bucket, key)
    for start in range(0, len(body), MIB):
        stream.write(body[start : start + MIB])
    stream.close()


def test_samples_are_put_listed_and_read(torch, bucket):
    """Objects always go up in parts, and come back by ranges of a part's size, the first asked for before the size is known."""
    for size in (0, 1, 5000, 300_000):
        put(torch, bucket, f"samples/{size} é", payload(size))
        assert torch.head_object(bucket, f"samples/{size} é").size == size
        assert b"".join(torch.get_object(bucket, f"samples/{size} é")) == payload(size)
    pages = list(torch.list_objects(bucket, prefix="samples/", max_keys=3))
    keys = [info.key for page in pages for info in page.object_info]
    assert keys == sorted(f"samples/{size} é" for size in (0, 1, 5000, 300_000)) and len(pages) == 2
    top = list(torch.list_objects(bucket, delimiter="/"))
    assert [prefix for page in top for prefix in page.common_prefixes] == ["samples/"]


@pytest.mark.multipart
def test_a_checkpoint_is_put_in_parts(torch, bucket):
    """A large object goes in several parts and is read whole, and by a range across the seam."""
    body = payload(10 * MIB + 1000)
    put(torch, bucket, "checkpoint", body)
    assert torch.head_object(bucket, "checkpoint").etag.strip('"').endswith("-3")
    assert b"".join(torch.get_object(bucket, "checkpoint")) == body
    seam = 5 * MIB
    assert b"".join(torch.get_object(bucket, "checkpoint", start=seam - 9, end=seam + 9)) == body[seam - 9 : seam + 9]


@pytest.mark.copy
def test_a_checkpoint_is_renamed(torch, bucket):
    """A rename is a copy on the server and a deletion. The client does not encode the names of copies itself."""
    from s3torchconnectorclient._mountpoint_s3_client import S3Exception

    put(torch, bucket, "a/b", payload(9000))
    torch.copy_object(bucket, "a/b", bucket, "c/d")
    torch.delete_object(bucket, "a/b")
    assert b"".join(torch.get_object(bucket, "c/d")) == payload(9000)
    with pytest.raises(S3Exception):
        torch.head_object(bucket, "a/b")

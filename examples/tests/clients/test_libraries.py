"""Other libraries, each with habits of its own: minio-py, obstore (Rust's object_store) and PyArrow (C++)."""

import io
from urllib.parse import urlsplit

import pytest

from conftest import ACCESS_KEY, SECRET_KEY, payload
from wire import REGION

pytestmark = pytest.mark.libraries

MIB = 1024 * 1024
SIZES = [0, 1, 5000, 300_000]


@pytest.fixture
def minio(endpoint):
    module = pytest.importorskip("minio")
    parts = urlsplit(endpoint)
    return module.Minio(
        parts.netloc, access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=parts.scheme == "https", region=REGION
    )


@pytest.fixture
def object_store(endpoint, bucket):
    stores = pytest.importorskip("obstore.store")
    return stores.S3Store(
        bucket, endpoint=endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
        client_options={"allow_http": endpoint.startswith("http://")}, retry_config={"max_retries": 0},
    )


@pytest.fixture
def arrow(endpoint, authority):
    module = pytest.importorskip("pyarrow.fs")
    parts = urlsplit(endpoint)
    return module.S3FileSystem(
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, endpoint_override=parts.netloc, region=REGION, scheme=parts.scheme,
        allow_bucket_creation=False, tls_ca_file_path=authority[0],
    )


def test_minio_puts_lists_reads_and_removes(minio, bucket):
    """minio-py: objects with metadata, a recursive list, ranges, and removal of many."""
    for size in SIZES:
        minio.put_object(bucket, f"a/{size}", io.BytesIO(payload(size)), size, metadata={"colour": "blue"})
        reply = minio.get_object(bucket, f"a/{size}")
        assert reply.read() == payload(size)
        reply.close()
        assert minio.stat_object(bucket, f"a/{size}").metadata["x-amz-meta-colour"] == "blue"
    assert minio.get_object(bucket, "a/5000", offset=10, length=20).read() == payload(5000)[10:30]
    listed = [entry.object_name for entry in minio.list_objects(bucket, recursive=True)]
    assert listed == sorted(f"a/{size}" for size in SIZES)
    assert [entry.object_name for entry in minio.list_objects(bucket)] == ["a/"]
    from minio.deleteobjects import DeleteObject

    assert list(minio.remove_objects(bucket, [DeleteObject(name) for name in listed])) == []
    assert list(minio.list_objects(bucket, recursive=True)) == []


def test_object_store_puts_on_condition(object_store):
    """object_store: PUT that creates and PUT that replaces by ETag, as table formats commit."""
    import obstore

    first = obstore.put(object_store, "log/1", b"first", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(object_store, "log/1", b"second", mode="create")
    obstore.put(object_store, "log/1", b"third", mode={"e_tag": first["e_tag"]})
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(object_store, "log/1", b"fourth", mode={"e_tag": first["e_tag"]})
    assert bytes(obstore.get(object_store, "log/1").bytes()) == b"third"


def test_object_store_reads_ranges_and_lists(object_store):
    """object_store: several ranges at once, and a list with common prefixes."""
    import obstore

    body = payload(300_000)
    obstore.put(object_store, "data/a b+c", body)
    got = obstore.get_ranges(object_store, "data/a b+c", starts=[0, 299_990], ends=[10, 300_000])
    assert [bytes(part) for part in got] == [body[:10], body[299_990:]]
    listed = obstore.list_with_delimiter(object_store)
    assert listed["common_prefixes"] == ["data"]
    obstore.delete(object_store, "data/a b+c")
    with pytest.raises(FileNotFoundError):
        obstore.head(object_store, "data/a b+c")


@pytest.mark.multipart
def test_minio_uploads_in_parts(minio, bucket):
    """minio-py: a stream of unknown length goes in parts."""
    body = payload(10 * MIB + 1000)
    minio.put_object(bucket, "large", io.BytesIO(body), -1, part_size=5 * MIB)
    assert minio.get_object(bucket, "large").read() == body


@pytest.mark.multipart
def test_arrow_writes_and_reads(arrow, bucket):
    """PyArrow: files written in parts with CRC64NVME trailers, directories, infos of what is there and is not."""
    from pyarrow import fs

    for size in SIZES + [12 * MIB]:
        path = f"{bucket}/folder/{size}"
        with arrow.open_output_stream(path) as stream:
            stream.write(payload(size))
        with arrow.open_input_file(path) as file:
            assert file.read() == payload(size)
    arrow.create_dir(f"{bucket}/made/here")
    kinds = [info.type for info in arrow.get_file_info([f"{bucket}/folder", f"{bucket}/folder/1", f"{bucket}/none"])]
    assert kinds == [fs.FileType.Directory, fs.FileType.File, fs.FileType.NotFound]
    names = [info.base_name for info in arrow.get_file_info(fs.FileSelector(f"{bucket}/folder"))]
    assert sorted(names) == sorted(str(size) for size in SIZES + [12 * MIB])
    arrow.delete_dir(f"{bucket}/folder")
    assert arrow.get_file_info(f"{bucket}/folder").type == fs.FileType.NotFound


@pytest.mark.multipart
def test_arrow_keeps_a_table(arrow, bucket):
    """PyArrow: a partitioned data set in Parquet comes back equal."""
    import pyarrow
    from pyarrow import dataset

    table = pyarrow.table({"part": [n % 3 for n in range(3000)], "value": [n * 7 for n in range(3000)]})
    dataset.write_dataset(table, f"{bucket}/table", format="parquet", partitioning=["part"], filesystem=arrow)
    back = dataset.dataset(f"{bucket}/table", format="parquet", partitioning=["part"], filesystem=arrow).to_table()
    assert back.sort_by("value").select(["part", "value"]).to_pylist() == table.sort_by("value").to_pylist()


@pytest.mark.copy
def test_minio_copies_and_composes(minio, bucket):
    """minio-py: copies under conditions on their source, and objects composed of others by UploadPartCopy."""
    from minio.commonconfig import CopySource, ComposeSource
    from minio.error import S3Error

    parts = [payload(5 * MIB, 1), payload(9000, 2)]
    etags = [minio.put_object(bucket, f"part é {n}", io.BytesIO(body), len(body)).etag for n, body in enumerate(parts)]
    minio.copy_object(bucket, "copy", CopySource(bucket, "part é 1", match_etag=etags[1]))
    assert minio.get_object(bucket, "copy").read() == parts[1]
    with pytest.raises(S3Error) as refused:
        minio.copy_object(bucket, "copy", CopySource(bucket, "part é 1", not_match_etag=etags[1]))
    assert refused.value.code == "PreconditionFailed"
    minio.compose_object(bucket, "whole", [ComposeSource(bucket, f"part é {n}") for n in range(2)])
    assert minio.get_object(bucket, "whole").read() == b"".join(parts)


def test_minio_reads_on_condition(minio, bucket):
    """minio-py: a GET under If-Match, and one under If-None-Match of what is known already."""
    from minio.error import S3Error

    first = minio.put_object(bucket, "object", io.BytesIO(b"first"), 5).etag
    assert minio.get_object(bucket, "object", request_headers={"If-Match": f'"{first}"'}).read() == b"first"
    minio.put_object(bucket, "object", io.BytesIO(b"second"), 6)
    with pytest.raises(S3Error) as refused:
        minio.get_object(bucket, "object", request_headers={"If-Match": f'"{first}"'})
    assert refused.value.code == "PreconditionFailed"


@pytest.mark.multipart
def test_object_store_writes_in_parts_and_copies(object_store, bucket):
    """object_store: parts side by side, a copy and a rename on the server, and deletes in one request."""
    import obstore

    body = payload(10 * MIB + 1000)
    obstore.put(object_store, "large", body, use_multipart=True, chunk_size=5 * MIB)
    assert bytes(obstore.get(object_store, "large").bytes()) == body
    obstore.copy(object_store, "large", "copies/a b")
    obstore.rename(object_store, "copies/a b", "copies/c")
    assert bytes(obstore.get_range(object_store, "copies/c", start=5 * MIB - 9, end=5 * MIB + 9)) == body[5 * MIB - 9 : 5 * MIB + 9]
    obstore.delete(object_store, ["large", "copies/c"])
    assert [entry for page in obstore.list(object_store) for entry in page] == []


def test_object_store_reads_on_condition(object_store):
    """object_store: a GET that depends on the tag it knows."""
    import obstore

    first = obstore.put(object_store, "object", b"first")["e_tag"]
    assert bytes(obstore.get(object_store, "object", options={"if_match": first}).bytes()) == b"first"
    with pytest.raises(obstore.exceptions.NotModifiedError):
        obstore.get(object_store, "object", options={"if_none_match": first})
    obstore.put(object_store, "object", b"second")
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.get(object_store, "object", options={"if_match": first})


@pytest.mark.copy
def test_arrow_copies_moves_and_reads_ranges(arrow, bucket):
    """PyArrow: copies and moves on the server, reads anywhere in a file. It has no conditional requests."""
    body = payload(300_000)
    with arrow.open_output_stream(f"{bucket}/a b+é") as stream:
        stream.write(body)
    arrow.copy_file(f"{bucket}/a b+é", f"{bucket}/copy")
    arrow.move(f"{bucket}/copy", f"{bucket}/moved")
    with arrow.open_input_file(f"{bucket}/moved") as file:
        assert file.read_at(100_000, 7) == body[7:100_007]
        assert file.size() == 300_000
    arrow.delete_file(f"{bucket}/moved")
    with pytest.raises(FileNotFoundError):
        arrow.open_input_file(f"{bucket}/moved")

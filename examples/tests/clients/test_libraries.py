"""Other libraries, each with habits of its own: minio-py, obstore (Rust's object_store) and PyArrow (C++)."""

import io

import pytest

from conftest import ACCESS_KEY, SECRET_KEY, payload
from wire import REGION

pytestmark = pytest.mark.libraries

MIB = 1024 * 1024
SIZES = [0, 1, 5000, 300_000]


@pytest.fixture
def minio(endpoint):
    module = pytest.importorskip("minio")
    return module.Minio(
        endpoint.removeprefix("http://"), access_key=ACCESS_KEY, secret_key=SECRET_KEY, secure=False, region=REGION
    )


@pytest.fixture
def object_store(endpoint, bucket):
    stores = pytest.importorskip("obstore.store")
    return stores.S3Store(
        bucket, endpoint=endpoint, region=REGION, access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY,
        client_options={"allow_http": True}, retry_config={"max_retries": 0},
    )


@pytest.fixture
def arrow(endpoint):
    module = pytest.importorskip("pyarrow.fs")
    return module.S3FileSystem(
        access_key=ACCESS_KEY, secret_key=SECRET_KEY, endpoint_override=endpoint, region=REGION, scheme="http",
        allow_bucket_creation=False,
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
    body = payload(12 * MIB)
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

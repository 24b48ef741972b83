"""Every verb through s3fs, which pandas, Dask and Zarr read and write by: fsspec on aiobotocore."""

import sys

import s3fs

from attempts import refused, report
from payloads import payload

MIB = 1024 * 1024
endpoint, bucket = sys.argv[1:]
files = s3fs.S3FileSystem(endpoint_url=endpoint, config_kwargs={"s3": {"addressing_style": "path"}}, use_listings_cache=False)
body = payload(300_000)


def put():
    for size in (0, 1, 5000, 300_000):
        files.pipe_file(f"{bucket}/sizes/{size}", payload(size))
        assert files.info(f"{bucket}/sizes/{size}")["size"] == size
    files.pipe_file(f"{bucket}/a b+c/é", body)


def list_():
    assert sorted(files.ls(bucket, detail=False)) == [f"{bucket}/a b+c", f"{bucket}/sizes"]
    assert len(files.find(bucket)) == 5
    assert files.glob(f"{bucket}/sizes/5*") == [f"{bucket}/sizes/5000"]


def get():
    assert files.cat_file(f"{bucket}/a b+c/é") == body
    both = files.cat([f"{bucket}/sizes/1", f"{bucket}/sizes/5000"])
    assert both == {f"{bucket}/sizes/{size}": payload(size) for size in (1, 5000)}


def range_():
    assert files.cat_file(f"{bucket}/a b+c/é", start=7, end=100_007) == body[7:100_007]
    assert files.cat_file(f"{bucket}/a b+c/é", start=-9) == body[-9:]
    with files.open(f"{bucket}/a b+c/é", block_size=65_536) as file:
        file.seek(200_000)
        assert file.read(50_000) == body[200_000:250_000]


def multipart():
    large = payload(10 * MIB + 1000)
    with files.open(f"{bucket}/large", "wb", block_size=5 * MIB) as file:
        for start in range(0, len(large), MIB):
            file.write(large[start : start + MIB])
    assert files.cat_file(f"{bucket}/large") == large
    assert files.info(f"{bucket}/large")["ETag"].rstrip('"').endswith(("-2", "-3"))


def copy():
    files.cp_file(f"{bucket}/a b+c/é", f"{bucket}/copies/é")
    files.mv(f"{bucket}/copies/é", f"{bucket}/copies/moved")
    assert files.ls(f"{bucket}/copies", detail=False) == [f"{bucket}/copies/moved"]
    assert files.cat_file(f"{bucket}/copies/moved") == body


def delete():
    files.rm_file(f"{bucket}/copies/moved")
    files.rm(f"{bucket}/sizes", recursive=True)
    assert files.find(f"{bucket}/sizes") == [] and not files.exists(f"{bucket}/copies/moved")


def conditional():
    files.pipe_file(f"{bucket}/once", b"first", mode="create")
    refused(lambda: files.pipe_file(f"{bucket}/once", b"second", mode="create"), FileExistsError)
    assert files.cat_file(f"{bucket}/once") == b"first"


report({
    "put": put, "list": list_, "get": get, "range": range_, "multipart": multipart, "copy": copy, "delete": delete,
    "conditional": conditional,
})

"""Every operation of the SDK's own model of S3: what `s3-api/docs/coverage.md` says of it is so."""

import datetime
import pathlib

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from conftest import ACCESS_KEY, SECRET_KEY
from wire import REGION

pytestmark = pytest.mark.operations

# Signed for other services than S3, which alone is reason enough to refuse them.
OF_OTHER_SERVICES = {"ListDirectoryBuckets", "WriteGetObjectResponse"}
COVERAGE = pathlib.Path(__file__).parents[3] / "s3-api/docs/coverage.md"


def table():
    """The state of each operation."""
    rows = [line.strip("| ").split(" | ") for line in COVERAGE.read_text().splitlines() if line.startswith("| ")]
    states = {row[0]: row[1] for row in rows if row[0] != "Operation"}
    # "as Other": the older name of another operation.
    return {name: states[state[3:]] if state.startswith("as ") else state for name, state in states.items()}


@pytest.fixture(scope="module")
def model(endpoint):
    """A client that asks for anything: no host but the server's, no check of what it sends."""
    return boto3.client(
        "s3", endpoint_url=endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        config=Config(
            retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, inject_host_prefix=False,
            parameter_validation=False,
        ),
    )


def sample(shape, name, bucket):
    """Some value of a shape, with what it must have."""
    if name == "Bucket":
        return bucket
    if shape.type_name == "structure":
        members = shape.required_members or list(shape.members)[:1]
        return {member: sample(shape.members[member], member, bucket) for member in members}
    if shape.type_name == "list":
        return [sample(shape.member, name, bucket)]
    if shape.type_name == "string":
        return shape.enum[0] if getattr(shape, "enum", None) else "x"
    values = {"timestamp": datetime.datetime(2030, 1, 1), "boolean": True, "blob": b"x"}
    return values.get(shape.type_name, 1)


def test_the_table_names_what_the_sdk_knows(model):
    """All operations of the model, and PostObject, which browsers send without an SDK."""
    assert sorted(table()) == sorted([*model.meta.service_model.operation_names, "PostObject"])


@pytest.mark.parametrize("name", sorted(name for name, state in table().items() if state == "501"))
def test_what_is_not_here_is_refused_by_name(model, bucket, name):
    """As the SDK asks for it: 501, NotImplemented, and the next request on the connection is answered as ever."""
    shape = model.meta.service_model.operation_model(name).input_shape
    with pytest.raises(ClientError) as refused:
        model._make_api_call(name, sample(shape, "", bucket) if shape else {})
    response = refused.value.response
    expected = (400, "AuthorizationHeaderMalformed") if name in OF_OTHER_SERVICES else (501, "NotImplemented")
    assert (response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]) == expected
    assert model.list_objects_v2(Bucket=bucket)["KeyCount"] == 0

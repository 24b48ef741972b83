"""Clients in environments of their own, each asked for every verb: fsspec's s3fs, boto3 with awscrt, the SDK for JavaScript."""

import os
import pathlib

import pytest

from verbs import VERBS, given, outcomes
from wire import REGION

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="module")
def fsspec(s3, client_environment):
    return outcomes(s3, [given("CROSSDOCK_PYTHON_FSSPEC"), HERE / "verbs_fsspec.py"], client_environment)


@pytest.fixture(scope="module")
def crt(s3, client_environment):
    return outcomes(s3, [given("CROSSDOCK_PYTHON_CRT"), HERE / "verbs_crt.py"], client_environment)


@pytest.fixture(scope="module")
def javascript(s3, client_environment):
    more = {"NODE_PATH": given("CROSSDOCK_NODE_MODULES"), "AWS_REGION": REGION}
    more |= {name: os.environ[name] for name in ["CROSSDOCK_RECORD"] if name in os.environ}
    return outcomes(s3, ["node", HERE / "javascript/verbs.cjs"], client_environment | more)


@pytest.mark.fsspec
@pytest.mark.parametrize("verb", VERBS)
def test_s3fs_of_fsspec(fsspec, verb):
    """s3fs on aiobotocore does this."""
    assert fsspec[verb] is None, fsspec[verb]


@pytest.mark.crt
@pytest.mark.parametrize("verb", VERBS)
def test_boto3_with_awscrt(crt, verb):
    """boto3 that signs and sums in C does this."""
    assert crt[verb] is None, crt[verb]


@pytest.mark.javascript
@pytest.mark.parametrize("verb", VERBS)
def test_the_sdk_for_javascript(javascript, verb):
    """@aws-sdk/client-s3 does this."""
    assert javascript[verb] is None, javascript[verb]

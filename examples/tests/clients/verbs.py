"""Clients that live in an environment of their own: one process tries every verb there and says how each went.

A program prints one line of JSON for each verb; `outcomes` runs it and reads the lines. Every such client is asked for
the same verbs, so that a missing one shows.
"""

import json
import os
import subprocess
import uuid

import pytest

VERBS = ("put", "list", "get", "range", "multipart", "copy", "delete", "conditional")


def outcomes(s3, command, environment):
    """Runs a client's program on a bucket of its own: how each verb went, in words; None is well."""
    bucket = f"verbs-{uuid.uuid4()}"
    s3.create_bucket(Bucket=bucket)
    try:
        done = subprocess.run(
            [*command, environment["AWS_ENDPOINT_URL"], bucket], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300, check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        said = {line["verb"]: line["failure"] for line in lines}
        missing = f"nothing was said of it; the program ended with {done.returncode}: {done.stderr}"
        return {verb: said.get(verb, missing) for verb in VERBS}
    finally:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for entry in page.get("Contents", []):
                s3.delete_object(Bucket=bucket, Key=entry["Key"])
        s3.delete_bucket(Bucket=bucket)


def given(name):
    """What `cargo xtask clients` installed and names in this variable; where it could not, its reason skips the test."""
    place = os.environ.get(name)
    if not place:
        pytest.skip(os.environ.get(f"{name}_ABSENT") or f"{name} is not set; `cargo xtask clients` sets it")
    return place

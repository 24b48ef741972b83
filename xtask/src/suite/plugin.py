"""What pytest needs to run the public suite against a server of this tree.

Each pytest has a server of its own, in a directory of its own, so that several run at a time and none sees the buckets of
another. From the environment:

    CROSSDOCK_SERVER    the program
    SUITE_RESULTS       the file that results go to: FILE TAB TEST TAB OUTCOME TAB WHY, a line for each test
    SUITE_SHARE         INDEX/COUNT: which of COUNT shares of the tests is run
    SUITE_NAMES         a regular expression that names of tests have to match, if it is set
"""

import os
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "examples/tests/clients"))

from server import Server  # noqa: E402 - it is beside the tests of the clients

KEYS = {"main": ("SUITEMAIN", "secret-of-main"), "alt": ("SUITEALT", "secret-of-alt")}

# Markers of tests that are about what only Ceph has, or that need services beside S3; and those that do not hold of AWS.
NOT_PORTABLE = """
    fails_on_aws bucket_logging bucket_logging_cleanup fails_without_logging_rollover cloud_transition cloud_restore target_by_bucket
    iam_account iam_tenant iam_user iam_role iam_cross_account user_policy role_policy group_policy session_policy webidentity_test
    abac_test test_of_sts sns s3select appendobject auth_aws2 lifecycle_transition s3website storage_class
""".split()

# Tests that count all buckets of an account: they go first, before one that is locked stays behind.
FIRST = re.compile("test_list_buckets")

running = {}
results = {}
left_behind = set()


def users():
    lines = []
    for name, (key, secret) in KEYS.items():
        lines += ["[[account]]", f'id = "{name}"', f'email = "{name}@example.com"']
        lines += ["[[user]]", f'access-key = "{key}"', f'secret-key = "{secret}"', f'account = "{name}"']
    return "\n".join(lines) + "\n"


def settings(address):
    """The suite's configuration file: its sections are the accounts that its tests take part as."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    lines = ["[DEFAULT]", f"host = {host}", f"port = {port}", "is_secure = False", "ssl_verify = False"]
    lines += ["[fixtures]", "bucket prefix = suite-{random}-"]
    sections = {"s3 main": "main", "s3 alt": "alt", "s3 tenant": "main", "iam": "main", "iam root": "main", "iam alt root": "alt"}
    for section, name in sections.items():
        key, secret = KEYS[name]
        lines += [f"[{section}]", f"display_name = {name}", f"user_id = {name}", f"email = {name}@example.com"]
        lines += [f"access_key = {key}", f"secret_key = {secret}", "api_name = us-east-1", "tenant = suite"]
    return "\n".join(lines) + "\n"


def pytest_configure(config):
    directory = running["directory"] = tempfile.TemporaryDirectory()
    place = pathlib.Path(directory.name)
    (place / "users.toml").write_text(users())
    options = ["--users", str(place / "users.toml"), "--bucket-defaults", "aws-before-2023"]
    with (place / "server.log").open("wb") as log:
        running["server"] = Server(os.environ["CROSSDOCK_SERVER"], place / "data", "", "", options, log)
    (place / "suite.conf").write_text(settings(running["server"].address))
    os.environ["S3TEST_CONF"] = str(place / "suite.conf")


def pytest_unconfigure(config):
    if "server" in running:
        running["server"].stop()
    running["directory"].cleanup()


def pytest_collection_modifyitems(config, items):
    """Leaves the share of portable tests that this process runs."""
    names = re.compile(os.environ.get("SUITE_NAMES") or "")
    index, count = map(int, os.environ["SUITE_SHARE"].split("/"))

    def is_portable(item):
        marks = {mark.name for mark in item.iter_markers()}
        return marks.isdisjoint(NOT_PORTABLE) and "kms" not in item.name and names.search(item.name)

    portable = [item for item in items if is_portable(item)]
    # Neighbours take about as long: each process takes every so many.
    items[:] = sorted(portable[index::count], key=lambda item: not FIRST.search(item.name))


def empty(client, bucket):
    """Deletes what can be deleted, locked versions aside, and the bucket."""
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket)
    for page in pages:
        found = page.get("Versions", []) + page.get("DeleteMarkers", [])
        objects = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]
        if objects:
            client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True}, BypassGovernanceRetention=True)
    client.delete_bucket(Bucket=bucket)


def clean(functional):
    """Leaves no bucket to the next test but those that are locked for longer than a test takes."""
    import botocore.exceptions

    for client in functional.get_client(), functional.get_alt_client():
        for bucket in client.list_buckets()["Buckets"]:
            name = bucket["Name"]
            if name in left_behind:
                continue
            try:
                empty(client, name)
            except botocore.exceptions.ClientError:
                left_behind.add(name)


def pytest_collection_finish(session):
    import s3tests.functional as functional

    # In place of its own, which waits for locks to end and asks for users and roles.
    functional.setup = lambda: None
    functional.teardown = lambda: clean(functional)


def pytest_runtest_logreport(report):
    file, _, test = report.nodeid.rpartition("::")
    key = (file.rpartition("/")[2], test)
    outcome, why = results.get(key, ("passed", ""))
    if report.outcome != "passed" and outcome == "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        text = crash.message if crash else str(report.longrepr)
        outcome, why = report.outcome, " ".join(text.split())[:300]
    results[key] = (outcome, why)


def pytest_sessionfinish(session):
    with open(os.environ["SUITE_RESULTS"], "w", encoding="utf-8") as file:
        for (where, test), (outcome, why) in sorted(results.items()):
            file.write("\t".join((where, test, outcome, why)) + "\n")

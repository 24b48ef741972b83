"""Runs a command-line client, or says why it cannot."""

import os
import shutil
import subprocess
import sys

import pytest


def program(name):
    """The client beside this Python, or on the PATH; a client that is not there skips its tests."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    found = beside if os.path.exists(beside) else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed here")
    return found


def run(arguments, environment, expect=0, **more):
    """Runs the client to its end and returns what it wrote; an unexpected exit code shows all of it."""
    done = subprocess.run(
        [str(argument) for argument in arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        timeout=300, **more
    )
    text = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert (done.returncode == 0) == (expect == 0), f"{arguments} ended with {done.returncode}:\n{text}"
    return done.stdout.decode("utf-8", "replace")


def tree(folder):
    """Every file below `folder`: its relative path and its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}

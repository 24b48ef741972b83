"""Tries every verb inside a client's own process: see verbs.py, which reads what is said here."""

import json
import traceback


def report(attempts):
    """Tries them in their order; what one leaves behind is there for the next."""
    for verb, attempt in attempts.items():
        try:
            attempt()
            failure = None
        except Exception:  # whatever a client raises is the outcome
            failure = traceback.format_exc()
        print(json.dumps({"verb": verb, "failure": failure}), flush=True)


def refused(attempt, kinds, code=""):
    """That the attempt fails in this way."""
    try:
        attempt()
    except kinds as error:
        assert code in str(error), f"{code} was expected: {error!r}"
        return
    raise AssertionError("what should be refused was done")

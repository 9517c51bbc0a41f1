"""What recurses too deeply raises RecursionError, however small the stacks of this machine are."""

from __future__ import annotations

import subprocess
import sys

import pytest

RECURSE = """
import json, sys, threading
from pfsd.runtime.stack import allow_depth

def below(level):
    yield level
    yield from below(level + 1)

def recurse():
    deepest = 0
    for text in ("[" * 100_000, '{"a":' * 100_000):
        try:
            json.loads(text)
        except RecursionError:
            deepest += 1
    try:
        for _ in below(0):
            pass
    except RecursionError:
        deepest += 1
    print(deepest)

allow_depth()
recurse()
thread = threading.Thread(target=recurse)
thread.start()
thread.join()
print(sys.getrecursionlimit() > 1000)
"""


@pytest.mark.parametrize("stack", ["1048576", "2097152:unlimited", "8388608:unlimited", "unlimited"])
def test_too_deep_is_an_error_and_never_a_crash(stack: str) -> None:
    run = subprocess.run(
        ["prlimit", f"--stack={stack}", sys.executable, "-c", RECURSE], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.split()) == (0, ["3", "3", "True"]), run.stderr

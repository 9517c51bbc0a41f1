"""pjdfstest, the crate that carries on the suite in C and shell of the same name: what system calls do, and errors.

Run as root, it also tests what other users may do.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from pfsd.errors import UnavailableError
from tools.suites import bounded, getting, places
from tools.suites.counts import Counts
from tools.suites.suite import Suite

VERSION = "0.2.2"
_SECONDS = 600
_SETTINGS = """\
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.01
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]
"""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LINE = re.compile(r"^(\S+::\S+)\s+(ok|FAILED|skipped)\n?((?:\t.*\n)*)", re.MULTILINE)
_SUMMARY = re.compile(r"^Summary: (\d+) failed, (\d+) skipped, (\d+) passed", re.MULTILINE)


def parsed(output: str) -> Counts:
    """The checks that its output tells of; raises UnavailableError where that is not whole."""
    counts = Counts()
    text = _COLOUR.sub("", output)
    for name, how, more in _LINE.findall(text):
        why = " ".join(more.split())[:200]
        match how:
            case "ok":
                counts.passed.add(name)
            case "FAILED":
                counts.failed[name] = why
            case _:
                counts.skipped[name] = why
    summary = _SUMMARY.search(text)
    counted = (len(counts.failed), len(counts.skipped), len(counts.passed))
    if summary is None or tuple(map(int, summary.groups())) != counted:
        raise UnavailableError(f"pjdfstest did not end as it should: {text[-500:]}")
    return counts


def _run(where: Path) -> Counts:
    with tempfile.TemporaryDirectory(prefix="pfs-suites-") as made:
        settings = Path(made) / "pjdfstest.toml"
        settings.write_text(_SETTINGS)
        command = [str(places.program("pjdfstest")), "-c", str(settings), "-s", made, "-p", str(where)]
        return parsed(bounded.run(command, where, _SECONDS).output)


SUITE = Suite(
    "pjdfstest",
    "some 400 tests of system calls and their errors",
    lambda into: getting.crate("pjdfstest", VERSION, into),
    lambda: places.program("pjdfstest") is not None,
    _run,
)

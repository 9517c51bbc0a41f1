"""How what suites print is counted."""

from __future__ import annotations

import pathlib

import pytest

from tools.suites import stress
from tools.suites.bounded import Ended
from tools.suites.counts import Counts

_DISPATCHED = "stress-ng: info:  [7] dispatching hogs: 1 seal\n"
_DONE = "stress-ng: info:  [7] successful run completed in 0.00s\n"
_LACKS = "stress-ng: info:  [8] seal stressor will be skipped, need CAP_SYS_ADMIN\n"
_NONE = "stress-ng: error: [7] No stress workers invoked (one or more were unsupported)\n"
_SKIPPING = "stress-ng: info:  [8] seal: /dev/full not available, skipping stress test\n"
_EARLY = "stress-ng: warn:  [7] process [8] (seal) aborted early, out of system resources\n"
_PART = "stress-ng: info:  [8] seal: fork failed 1 (no), skipping concurrent access stressing\n"
_UNKNOWN = "stress-ng: unrecognized option '--seal-opz'\nTry 'stress-ng --help' for more information.\n"
_FAILS = "stress-ng: fail:  [8] seal: what was read is not what was written\n"


def counted(status: int | None, output: str) -> Counts:
    counts = Counts()
    stress.count(counts, "seal", Ended(status, output))
    return counts


@pytest.mark.parametrize("output", [_DISPATCHED + _DONE, _PART + _DONE])
def test_a_stressor_that_ran_has_passed(output: str) -> None:
    assert counted(0, output) == Counts(passed={"seal"})


@pytest.mark.parametrize(
    ("status", "output", "reason"),
    [
        (0, _LACKS + _NONE, _LACKS),
        (0, _DISPATCHED + _SKIPPING + _DONE, _SKIPPING),
        (0, _DISPATCHED + _EARLY + _DONE, _EARLY),
        (3, _DISPATCHED + _EARLY + _DONE, _EARLY),
        (4, _SKIPPING, _SKIPPING),
        (4, "", "exit status 4"),
    ],
)
def test_a_stressor_that_did_nothing_is_skipped_for_its_reason(status: int, output: str, reason: str) -> None:
    assert counted(status, output) == Counts(skipped={"seal": reason.strip()})


@pytest.mark.parametrize(
    ("status", "output", "why"),
    [
        (1, _UNKNOWN, f"exit status 1: {_UNKNOWN.strip()}"),
        (2, _DISPATCHED + _FAILS + _DONE, f"exit status 2: {_FAILS.strip()}"),
        (2, _DISPATCHED + _FAILS + _SKIPPING, f"exit status 2: {_FAILS.strip()}"),
        (1, _NONE, f"exit status 1: {_NONE.strip()}"),
        (None, _DISPATCHED, f"its time was up: {_DISPATCHED.strip()}"),
        (0, _DISPATCHED, f"exit status 0: {_DISPATCHED.strip()}"),
        (-11, "", "exit status -11: "),
    ],
)
def test_a_stressor_that_ended_otherwise_has_failed(status: int | None, output: str, why: str) -> None:
    assert counted(status, output) == Counts(failed={"seal": why.replace("\n", "; ")})


def test_an_option_that_stress_ng_does_not_know_is_a_failure_with_what_it_says(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not stress.SUITE.present():
        pytest.skip("stress-ng is not here: apt-get install stress-ng")
    monkeypatch.setattr(stress, "STRESSORS", {"chmod": ("--chmod-nonsense", "1")})
    counts = stress.SUITE.run(tmp_path)
    assert not counts.passed
    assert "unrecognized option '--chmod-nonsense'" in counts.failed["chmod"]

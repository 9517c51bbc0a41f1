"""Names that count back: `master^^`, `master~2`, and numbers beyond all bounds in them."""

from __future__ import annotations

import re
from collections.abc import Callable

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pachproto import pfs_pb2
from pfsd.names.ancestry import MAX_NAME_BYTES, MAX_STEPS, parse_ancestor
from tests.support.daemons import Daemon, commit

_NAME = re.compile(r"(?P<base>.+?)(?P<steps>(?:\^|~[0-9]*)+)", re.DOTALL)
_STEP = re.compile(r"\^|~([0-9]*)")


def model(name: str) -> tuple[str, int] | None:
    """The same by regular expressions, for short names."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return match["base"], sum(int(step[1]) if step[1] else 1 for step in _STEP.finditer(match["steps"]))


def parsed(name: str) -> tuple[str, int] | None:
    found = parse_ancestor(name)
    return None if found is None else (found.base, found.steps)


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("master^", ("master", 1)),
        ("master^^^", ("master", 3)),
        ("master~", ("master", 1)),
        ("master~12", ("master", 12)),
        ("m^~2^", ("m", 4)),
        ("a^b~0", ("a^b", 0)),
        ("master", None),
        ("^", None),
        ("", None),
        ("master^2", None),
        ("master~" + "9" * 5000, ("master", MAX_STEPS)),
        ("master~" + "0" * 5000 + "7", ("master", 7)),
        ("master" + "^" * 20_000, ("master", 20_000)),
        ("master" + "~9999999999" * 2000, ("master", MAX_STEPS)),
    ],
)
def test_ancestor_names(name: str, want: tuple[str, int] | None) -> None:
    assert parsed(name) == want


@settings(max_examples=1000, deadline=None)
@given(st.text("^~019a\u0663", max_size=10))
def test_ancestor_names_are_read_as_the_model_does(name: str) -> None:
    assert parsed(name) == model(name)


def test_a_walk_ends_where_the_history_does(daemon: Daemon) -> None:
    daemon.create_repo("r")
    made = []
    for _ in range(3):
        made.append(daemon.start_commit("r", branch="master"))
        daemon.finish_commit(made[-1])
    for name, at in [("master~2", made[0]), ("master~", made[1]), ("master^~0", made[1]), ("master~1^", made[0])]:
        assert daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("r", name))).commit == at
    for name in ("master~3", "master~999999999999", "master~" + "9" * 4000, "master" + "^" * 4000):
        with pytest.raises(grpc.RpcError) as caught:
            daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("r", name)))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert len(caught.value.details() or "") < 300


@pytest.mark.parametrize("tail", ["^" * 20_000, "~" + "9" * 5000, "x" * 100_000])
def test_a_name_beyond_all_bounds_is_refused(daemon: Daemon, tail: str) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r", branch="master")
    daemon.finish_commit(at)
    name = f"master{tail}"
    calls: list[Callable[[], object]] = [
        lambda: daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=commit("r", name))),
        lambda: daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=at, branch=name)),
        lambda: daemon.pfs.StartCommit(pfs_pb2.StartCommitRequest(parent=commit("r", ""), branch=name)),
        lambda: daemon.pfs.StartCommit(pfs_pb2.StartCommitRequest(parent=commit("r", name))),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(MAX_NAME_BYTES) in (caught.value.details() or "")


@pytest.mark.parametrize("name", ["master~4", "x^", "a~"])
def test_no_branch_is_called_like_a_commit_before_another(daemon: Daemon, name: str) -> None:
    daemon.create_repo("r")
    daemon.finish_commit(daemon.start_commit("r", branch="master"))
    for call in (
        lambda: daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=commit("r", "master"), branch=name)),
        lambda: daemon.start_commit("r", branch=name),
    ):
        with pytest.raises(grpc.RpcError, match="stands for a commit before another") as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

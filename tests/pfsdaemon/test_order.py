"""The order of lists, and names of branches, as Pachyderm 1.5.3 has them."""

from __future__ import annotations

import grpc
import pytest

from pachproto import pfs_pb2
from tests.support.daemons import Daemon, commit

REPO = pfs_pb2.Repo(name="r")


def branches(daemon: Daemon) -> list[str]:
    return [info.name for info in daemon.pfs.ListBranch(pfs_pb2.ListBranchRequest(repo=REPO)).branch_info]


def commits(daemon: Daemon, number: int = 0) -> list[str]:
    request = pfs_pb2.ListCommitRequest(repo=REPO, number=number)
    return [info.commit.id for info in daemon.pfs.ListCommit(request).commit_info]


def set_branch(daemon: Daemon, name: str, to: str) -> None:
    daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=commit("r", to), branch=name))


def test_branches_are_listed_the_one_set_last_first(daemon: Daemon) -> None:
    daemon.create_repo("r")
    first = daemon.commit_files("r", {"f": b"1"}, branch="b")
    daemon.commit_files("r", {"f": b"2"}, branch="a")
    daemon.commit_files("r", {"f": b"3"}, branch="c")
    assert branches(daemon) == ["c", "a", "b"]
    set_branch(daemon, "a", first.id)
    assert branches(daemon) == ["a", "c", "b"]
    daemon.start_commit("r", "b")
    assert branches(daemon) == ["b", "a", "c"]
    daemon.pfs.DeleteBranch(pfs_pb2.DeleteBranchRequest(repo=REPO, branch="a"))
    daemon.stop()
    daemon.start()
    assert branches(daemon) == ["b", "c"]
    said = daemon.pachctl("list-branch", "r").stdout.decode().splitlines()
    assert [line.split()[0] for line in said[1:]] == ["b", "c"]


def test_commits_are_listed_the_one_changed_last_first(daemon: Daemon) -> None:
    daemon.create_repo("r")
    one, two, three = (daemon.start_commit("r", name).id for name in ("x", "y", "z"))
    assert commits(daemon) == [three, two, one]
    daemon.finish_commit(commit("r", one))
    assert commits(daemon) == [one, three, two]
    daemon.finish_commit(commit("r", two))
    assert commits(daemon) == [two, one, three]
    assert commits(daemon, 2) == [two, one]
    said = daemon.pachctl("list-commit", "r").stdout.decode().splitlines()
    assert [line.split()[1] for line in said[1:]] == [two, one, three]


@pytest.mark.parametrize("by", ["start", "set", "hold"])
def test_a_branch_may_not_be_called_like_a_commit(daemon: Daemon, by: str) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"f": b"1"})
    name = "0123456789abcdef" * 2
    request = pfs_pb2.StartCommitRequest(parent=commit("r", ""), branch=name)

    def name_it() -> None:
        if by == "start":
            daemon.pfs.StartCommit(request)
        elif by == "set":
            set_branch(daemon, name, "master")
        else:
            next(daemon.store.HoldCommit(request))

    with pytest.raises(grpc.RpcError) as failure:
        name_it()
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "form of a commit id" in (failure.value.details() or "")
    assert branches(daemon) == ["master"]
    daemon.commit_files("r", {"f": b"1"}, branch=name[1:])

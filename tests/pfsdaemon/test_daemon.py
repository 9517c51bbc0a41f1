"""The daemon as a process: starting, stopping, its root."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import grpc
import pytest

from pachproto import grpc_health_pb2, pfs_pb2
from pfsd import rpc
from pfsd.model.root import FORMAT
from pfsd.version import VERSION
from tests.support.daemons import Daemon, commit, running


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pfsdaemon.main", *args], capture_output=True, text=True, timeout=30, check=False
    )


def test_sigterm_stops_it_cleanly_within_five_seconds_also_with_a_waiting_call(daemon: Daemon) -> None:
    daemon.create_repo("r")
    request = pfs_pb2.SubscribeCommitRequest(repo=pfs_pb2.Repo(name="r"), branch="master")
    stream = daemon.pfs.SubscribeCommit(request)
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 5
    with pytest.raises(grpc.RpcError):
        next(stream)


def test_a_second_daemon_on_the_same_root_is_refused(daemon: Daemon) -> None:
    assert daemon.process is not None
    result = _run("--root", str(daemon.root), "--listen", "127.0.0.1:0", "--no-pipelines")
    assert result.returncode == 1
    assert result.stderr == (f"pfsd: the root {daemon.root} is served by another pfsd, process {daemon.process.pid}\n")


def test_a_taken_address_is_refused(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    result = _run("--root", str(tmp_path / "other"), "--listen", daemon.address, "--no-pipelines")
    assert result.returncode == 1
    new, said = result.stderr.splitlines()
    assert new == f"pfsd: {tmp_path / 'other'} was empty: a new root was made there"
    assert said == f"pfsd: can't listen on {daemon.address}: the address is taken or not of this machine"


@pytest.mark.parametrize("address", ["no-such-host.invalid:30650", "192.0.2.1:30650"])
def test_an_address_that_is_not_of_this_machine_is_refused(address: str, tmp_path: pathlib.Path) -> None:
    result = _run("--root", str(tmp_path / "root"), "--listen", address, "--no-pipelines")
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == [
        f"pfsd: can't listen on {address}: the address is taken or not of this machine"
    ]


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1", "host:", "127.0.0.1:\u00b2"])
def test_an_address_that_is_none_is_refused(address: str, tmp_path: pathlib.Path) -> None:
    result = _run("--root", str(tmp_path / "root"), "--listen", address, "--no-pipelines")
    assert result.returncode == 1
    assert result.stderr.splitlines()[1:] == [f"pfsd: the address {address} is not HOST:PORT"]


def test_a_new_root_is_told_of_once(tmp_path: pathlib.Path) -> None:
    with running(tmp_path / "root", "--no-pipelines") as daemon:
        told = "was empty: a new root was made there"
        assert daemon.log().count(told) == 1
        daemon.stop()
        daemon.start()
        assert daemon.log().count(told) == 1


@pytest.mark.parametrize(("program", "module"), [("pfsd", "pfsdaemon.main"), ("ppsd", "ppsd.main")])
def test_programs_tell_their_version_and_that_of_the_api(program: str, module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{program} {VERSION} (the API is that of Pachyderm 1.5.3)\n"


def test_a_directory_with_something_else_in_it_is_refused_and_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    result = _run("--root", str(tmp_path), "--listen", "127.0.0.1:0", "--no-pipelines")
    assert result.returncode == 1
    assert "is not a root of pfsd" in result.stderr
    assert (tmp_path / "photo.jpg").read_bytes() == b"x"


def test_a_newer_format_is_refused(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    with running(root, "--no-pipelines"):
        pass
    words = (root / "FORMAT").read_text().split()
    (root / "FORMAT").write_text(f"pfsd {FORMAT + 1} {words[2]}\n")
    result = _run("--root", str(root), "--listen", "127.0.0.1:0", "--no-pipelines")
    assert result.returncode == 1
    assert f"has format {FORMAT + 1} and this pfsd reads format {FORMAT}" in result.stderr


def test_a_finished_commit_survives_sigkill_right_after_finish_commit_returned(daemon: Daemon) -> None:
    daemon.create_repo("r")
    for number in range(20):
        data = number.to_bytes(2, "big") * 50_000
        daemon.commit_files("r", {f"f{number}": data, "log": b"line %d\n" % number})
        daemon.kill()
        daemon.start()
        head = commit("r", "master")
        assert daemon.get(head, f"f{number}") == data
        assert daemon.get(head, "log") == b"".join(b"line %d\n" % n for n in range(number + 1))


def test_an_open_commit_stays_open_over_sigkill_and_can_be_finished(daemon: Daemon) -> None:
    daemon.create_repo("r")
    first = daemon.commit_files("r", {"f": b"one\n"})
    opened = daemon.start_commit("r")
    daemon.put(opened, "f", b"two\n")
    daemon.put(opened, "big", b"z" * 3_000_000)
    daemon.kill()
    daemon.start()
    info = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=opened))
    assert not info.HasField("finished")
    daemon.put(opened, "f", b"three\n")
    daemon.finish_commit(opened)
    assert daemon.get(opened, "f") == b"one\ntwo\nthree\n"
    assert daemon.get(opened, "big") == b"z" * 3_000_000
    assert daemon.get(first, "f") == b"one\n"


def test_a_restart_finds_everything(daemon: Daemon) -> None:
    daemon.create_repo("in")
    daemon.create_repo("out", "in")
    daemon.commit_files("in", {"a/b": b"x", "c": b"y" * 10_000_000})
    daemon.commit_files("in", {"d": b"z"}, branch="side")
    before = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest())
    commits = daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="in")))
    assert daemon.stop() == 0
    daemon.start()
    assert daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()) == before
    assert daemon.pfs.ListCommit(pfs_pb2.ListCommitRequest(repo=pfs_pb2.Repo(name="in"))) == commits
    assert daemon.list(commit("in", "master")) == ["a", "c"]


def test_probes_are_answered_for_the_daemon_and_for_each_of_its_services(daemon: Daemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        health = rpc.Stub(channel, grpc_health_pb2.DESCRIPTOR.services_by_name["Health"])
        kinds = grpc_health_pb2.HealthCheckResponse
        for service in ("", "pfs.API", "pfs.ObjectAPI", "grpc.health.v1.Health"):
            request = grpc_health_pb2.HealthCheckRequest(service=service)
            assert health.Check(request).status == kinds.SERVING
            watched = health.Watch(request)
            assert next(watched).status == kinds.SERVING
            watched.cancel()
        with pytest.raises(grpc.RpcError) as failure:
            health.Check(grpc_health_pb2.HealthCheckRequest(service="no.Such"))
        assert failure.value.code() is grpc.StatusCode.NOT_FOUND
        assert next(health.Watch(grpc_health_pb2.HealthCheckRequest(service="no.Such"))).status == kinds.SERVICE_UNKNOWN

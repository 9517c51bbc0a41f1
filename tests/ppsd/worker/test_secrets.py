"""Secrets: files that user code finds at a path of its own, and that nobody else is shown."""

from __future__ import annotations

import pathlib

import grpc
import pytest

from pachproto import pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import flush, inspect, logs, spec, update

PASSWORD = b"correct horse battery staple"


def secretive(path: pathlib.Path, stdin: list[str]) -> pps_pb2.CreatePipelineRequest:
    request = spec(stdin=stdin)
    request.transform.secrets.append(pps_pb2.Secret(name="login", mount_path=str(path)))
    return request


def test_user_code_reads_a_secret_that_is_shown_nowhere_else(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    (daemon.root / "secrets/login").mkdir(parents=True)
    (daemon.root / "secrets/login/password").write_bytes(PASSWORD)
    seen = tmp_path / "seen"
    daemon.pps.CreatePipeline(secretive(seen, [f"wc -c < {seen}/password > /pfs/out/size"]))
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    assert int(daemon.get(commit("upper", "master"), "size")) == len(PASSWORD)
    assert list(seen.iterdir()) == []
    info = inspect(daemon)
    assert [(one.name, one.mount_path) for one in info.transform.secrets] == [("login", str(seen))]
    for said in (str(info), str(logs(daemon, pipeline=info.pipeline)), daemon.log()):
        assert PASSWORD.decode() not in said


def test_a_secret_that_is_not_there_fails_the_pipeline_with_its_name(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(secretive(tmp_path / "seen", ["true"]))
    given = daemon.commit_files("in", {"a": b"a"})
    with pytest.raises(grpc.RpcError, match="secret login does not exist"):
        flush(daemon, given)
    assert inspect(daemon).state == pps_pb2.PIPELINE_FAILURE
    (daemon.root / "secrets/login").mkdir(parents=True)
    update(daemon, secretive(tmp_path / "seen", ["true"]), reprocess=True)
    flush(daemon, given)

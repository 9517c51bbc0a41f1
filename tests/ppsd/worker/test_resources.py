"""resource_spec: what user code may take of this machine, and what is said where that can't be enforced."""

from __future__ import annotations

import pathlib

import grpc
import pytest

from pachproto import pps_pb2
from ppsd.specs.limits import CPU, MEMORY, Limits
from ppsd.worker.cgroups import Group, Hierarchy, find_hierarchies
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import all_ended, flush, inspect, jobs, logs, spec, update, workers

ENFORCED = find_hierarchies()
needs_memory = pytest.mark.skipif(MEMORY not in ENFORCED, reason="no control group for memory can be made here")
needs_cpu = pytest.mark.skipif(CPU not in ENFORCED, reason="no control group for processors can be made here")

HUNGRY = ["python3 -c 'b = bytearray(200 << 20); b[::4096] = b[::4096]; print(len(b))' > /pfs/out/size"]


def groups_of(daemon: Daemon) -> list[pathlib.Path]:
    """The control groups that this daemon's workers have."""
    found = []
    for hierarchy in ENFORCED.values():
        for group in hierarchy.directory.glob("pfsd-*"):
            pids = (group / "cgroup.procs").read_text().split()
            parents = {_parent(int(pid)) for pid in pids}
            found += [group] if parents & set(workers(daemon)) else []
    return found


@needs_memory
def test_what_takes_too_much_memory_is_killed_with_a_clear_reason(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec(stdin=HUNGRY, resource_spec={"memory": "64M"}))
    given = daemon.commit_files("in", {"a": b"a"})
    with pytest.raises(grpc.RpcError, match=r"more than the 6\d* bytes of memory that resource_spec\.memory allows"):
        flush(daemon, given)
    assert inspect(daemon).resource_spec.memory == "64M"
    groups = groups_of(daemon)
    assert groups

    # More memory is no other computation: the workers that are there get it.
    update(daemon, spec(stdin=HUNGRY, resource_spec={"memory": "1Gi"}))
    daemon.pachctl("run-pipeline", "upper")
    assert [job.state for job in all_ended(daemon, 2)] == [pps_pb2.JOB_FAILURE, pps_pb2.JOB_SUCCESS]
    assert int(daemon.get(commit("upper", "master"), "size")) == 200 << 20
    daemon.stop()
    assert not any(group.exists() for group in groups)


@needs_cpu
def test_processor_time_is_shared_out(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    lines = ["i=0; while [ $i -lt 60000 ]; do i=$((i + 1)); done"]
    daemon.pps.CreatePipeline(spec(stdin=lines, resource_spec={"cpu": 0.05}))
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    stats = [(group / "cpu.stat").read_text().split() for group in groups_of(daemon) if (group / "cpu.stat").exists()]
    assert any(int(words[words.index("nr_throttled") + 1]) for words in stats)


def test_what_one_machine_can_not_do_is_said(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = spec(resource_spec={"gpu": 1}, cache_size="1G", batch=True)
    request.transform.image_pull_secrets.append("myregistrykey")
    daemon.pps.CreatePipeline(request)
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    [job] = jobs(daemon)
    said = "\n".join(line.message for line in logs(daemon, job=job.job))
    for sentence in ("resource_spec.gpu is not enforced", "image_pull_secrets are not used", "cache_size", "batch"):
        assert sentence in said
    assert list(inspect(daemon).transform.image_pull_secrets) == ["myregistrykey"]


def test_groups_of_version_2_are_made_where_controllers_are_handed_on(tmp_path: pathlib.Path) -> None:
    """A look-alike of the kernel's files: this machine may have the other version."""
    inner = tmp_path / "user.slice/session"
    inner.mkdir(parents=True)
    for directory, handed in ((tmp_path, "cpu memory"), (inner.parent, "cpu memory"), (inner, "")):
        (directory / "cgroup.controllers").write_text("cpu memory pids\n")
        (directory / "cgroup.subtree_control").write_text(f"{handed}\n")
    (inner / "cgroup.controllers").write_text("\n")
    mounts, own = tmp_path / "mountinfo", tmp_path / "cgroup"
    mounts.write_text(f"24 1 0:20 / {tmp_path} rw - cgroup2 cgroup2 rw\n25 1 0:21 / / rw - ext4 /dev/x rw\n")
    own.write_text("0::/user.slice/session\n")
    assert find_hierarchies(mounts, own) == {name: Hierarchy(2, inner.parent) for name in (MEMORY, CPU)}


def test_no_limits_need_no_group() -> None:
    assert Limits().controllers() == []
    assert Group(()).memory_kills() == 0


def _parent(pid: int) -> int:
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0

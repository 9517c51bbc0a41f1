"""Pipelines of a daemon that is not root: its workers mount in user namespaces of their own."""

from __future__ import annotations

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from pachproto import pps_pb2
from tests.support.daemons import Daemon
from tests.support.pipelines import all_ended, atom, ended, flush, jobs, logs, spec, until

USER = 65534
"""nobody"""


def _hidden(path: str) -> list[pathlib.Path]:
    """The directories on the way to a path that others may not enter."""
    way = [parent for parent in pathlib.Path(os.path.realpath(path)).parents if not parent.stat().st_mode & 0o001]
    return list(reversed(way))


def _wrapper(scratch: pathlib.Path) -> tuple[str, ...]:
    """Run a command as another user, in a mount namespace in which that user may use Python and FUSE."""
    lines = [
        "set -e",
        f"mknod {scratch}/fuse c 10 229",
        f"chmod 666 {scratch}/fuse",
        f"mount --bind {scratch}/fuse /dev/fuse",
    ]
    for number, hidden in enumerate(_hidden(sys.executable)):
        layer = scratch / str(number)
        quoted = shlex.quote(str(hidden))
        lines += [
            f"mkdir -p {layer}/upper {layer}/work",
            f"mount -t overlay overlay -o lowerdir={quoted},upperdir={layer}/upper,workdir={layer}/work {quoted}",
            f"chmod a+rx {quoted}",
        ]
    lines.append(f'exec setpriv --reuid {USER} --regid {USER} --clear-groups --inh-caps=-all --bounding-set=-all "$@"')
    return ("unshare", "--mount", "sh", "-c", "\n".join(lines), "sh")


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        pytest.skip("becoming another user takes root, unshare and setpriv")
    os.makedirs("/pfs", exist_ok=True)  # which that user could not make
    with tempfile.TemporaryDirectory(prefix="pfsd-unprivileged-") as scratch:
        home = pathlib.Path(scratch) / "home"
        home.mkdir()
        os.chmod(scratch, 0o755)
        os.chown(home, USER, USER)
        started = Daemon(home / "root", wrapper=_wrapper(pathlib.Path(scratch)))
        tried = subprocess.run([*started.wrapper, "unshare", "--user", "true"], capture_output=True, check=False)
        if tried.returncode:
            pytest.skip(f"another user may not make user namespaces here: {tried.stderr.decode().strip()}")
        (pathlib.Path(scratch) / "fuse").unlink()
        try:
            yield started.start()
        finally:
            started.end()


def test_workers_that_are_not_root_do_all_that_needs_no_root(daemon: Daemon) -> None:
    assert daemon.process is not None
    assert os.stat(f"/proc/{daemon.process.pid}").st_uid == USER
    place = daemon.root.parent / "secret"
    secret = daemon.root / "secrets" / "word"
    secret.mkdir(parents=True)
    (secret / "value").write_text("hush")
    daemon.create_repo("in")
    daemon.create_repo("lazy")
    lines = [
        f'printf "%s %s %s\\n" "$(id -u)" "$(cat {place}/value | wc -c)" "$(cat /pfs/in/* /pfs/lazy/* | tr -d \'\\n\')"'
        " >> /pfs/out/all",
        "ln -s /pfs/lazy/* /pfs/out/",
        f'test -z "$(ls -A {daemon.root})"; test "$(cat /proc/1/comm)" = pfs-runner; test ! -s /proc/1/environ',
        'test -z "$(ls -A "$TMPDIR")"; touch "$TMPDIR/x"',
        f"if echo x > {place}/value; then exit 7; fi",
    ]
    request = spec(
        stdin=lines,
        input={"cross": [atom("in"), atom("lazy", lazy=True)]},
        enable_stats=True,
        resource_spec={"memory": "256Mi"},
    )
    request.transform.secrets.add(name="word", mount_path=str(place))
    daemon.pps.CreatePipeline(request)
    daemon.commit_files("lazy", {"z": b"later"})
    at = daemon.commit_files("in", {"a": b"one", "b": b"two"})
    [made] = [info.commit for info in flush(daemon, at) if info.commit.repo.name == "upper"]
    assert daemon.get(made, "all") == b"%d 4 onelater\n%d 4 twolater\n" % (USER, USER)
    assert daemon.get(made, "z") == b"later" * 2
    [job] = all_ended(daemon, 1)
    assert job.HasField("stats_commit")
    assert os.listdir(place) == []  # the secret was shown to the workers alone
    said = [line.message for line in logs(daemon, job=job.job)]
    assert any(line.startswith("resource_spec.memory is not enforced") for line in said)
    assert not any("is not kept apart" in line for line in said)


def test_incremental_jobs_and_stopped_ones_need_no_root(daemon: Daemon) -> None:
    daemon.create_repo("in")
    lines = [
        "cd /pfs/out; touch sum",
        "cat sum /pfs/in/* | paste -sd+ | sed s/^+// > line",
        "echo $(($(cat line))) > sum; rm line",
    ]
    daemon.pps.CreatePipeline(spec(stdin=lines, input=atom("in", "/"), incremental=True))
    for number in (3, 4):
        made = flush(daemon, daemon.commit_files("in", {str(number): b"%d\n" % number}))
    assert daemon.get(made[0].commit, "sum") == b"7\n"
    daemon.pps.CreatePipeline(spec("endless", ["sleep 1000"], input=atom("in", "/")))
    [job] = until(lambda: jobs(daemon, "endless"))
    asked = pps_pb2.InspectJobRequest(job=job.job)
    until(lambda: daemon.pps.InspectJob(asked).worker_status)
    daemon.pps.StopJob(pps_pb2.StopJobRequest(job=job.job))
    assert ended(daemon, job).state == pps_pb2.JOB_KILLED

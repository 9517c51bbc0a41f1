"""Starting and stopping machines."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from pfsd.errors import UnavailableError
from tools.cluster import network
from tools.cluster.commands import run
from tools.cluster.init import Plan, Program
from tools.cluster.layout import PREFIX, Layout, Machine

GROUPS = Path("/sys/fs/cgroup")
STOP_SECONDS = 60.0
_SETTINGS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops")
_KEYS = ("kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")
KERNEL_SETTINGS = tuple(Path("/proc/sys") / name for name in (*_SETTINGS, *_KEYS))
"""What kubelet sets for the whole kernel."""


def start(layout: Layout, machine: Machine, programs: list[Program]) -> None:
    """Start a machine that does not run; what it had in /var is still there."""
    shutil.rmtree(machine.run, ignore_errors=True)
    for directory in (machine.var, machine.var / "tmp", machine.run, machine.logs):
        directory.mkdir(parents=True, exist_ok=True)
    if not (machine.var / "run").is_symlink():
        (machine.var / "run").symlink_to("/run")
    plan = machine.directory / "plan.json"
    Plan(str(machine.var), str(machine.run), str(machine.logs), programs).save(plan)
    network.add_machine(layout, machine)
    for group in _groups(machine.namespace):
        group.mkdir(exist_ok=True)
    isolate = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
    inside = ["nsenter", f"--net=/run/netns/{machine.namespace}", *isolate]
    with (machine.logs / "init.log").open("ab") as log:
        process = subprocess.Popen(
            [*inside, sys.executable, "-m", "tools.cluster.init", str(plan)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=Path(__file__).parents[2],
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
            start_new_session=True,
        )
    while not _processes(machine.namespace):
        if process.poll() is not None:
            raise UnavailableError(f"{machine.name} ended as it started: see {machine.logs / 'init.log'}")
        time.sleep(0.01)


def running(machine: Machine) -> bool:
    """Whether a machine has any process."""
    return machine.namespace in network.namespaces() and bool(_processes(machine.namespace))


def stop(namespace: str) -> None:
    """End a machine at once, as a loss of power would: its processes, mounts, links and control groups go.

    Raises UnavailableError if something of it is still there after STOP_SECONDS.
    """
    deadline = time.monotonic() + STOP_SECONDS
    while pids := _processes(namespace):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _wait(deadline, f"processes of {namespace} do not end: {pids}")
    network.remove_machine(namespace)
    for group in _groups(namespace):
        while group.exists() and not _removed(group):
            _wait(deadline, f"{group} is still in use")


def left_groups() -> list[str]:
    """The names of control groups of clusters that there are."""
    return sorted({path.name for directory in _hierarchies() for path in directory.glob(f"{PREFIX}*")})


def remove_groups(namespace: str) -> None:
    """Remove the control groups of a machine that does not run."""
    for group in _groups(namespace):
        if group.exists():
            _removed(group)


def _processes(namespace: str) -> list[int]:
    return [int(pid) for pid in run(["ip", "netns", "pids", namespace]).split()]


def _wait(deadline: float, complaint: str) -> None:
    if time.monotonic() > deadline:
        raise UnavailableError(complaint)
    time.sleep(0.05)


def _hierarchies() -> list[Path]:
    if (GROUPS / "cgroup.controllers").exists():
        return [GROUPS]
    return [path for path in GROUPS.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]


def _groups(name: str) -> list[Path]:
    return [directory / name for directory in _hierarchies()]


def _removed(group: Path) -> bool:
    """Whether a control group and all below it could be removed."""
    for directory, _subdirectories, _files in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True

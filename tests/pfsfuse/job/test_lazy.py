"""Lazy inputs: named pipes in a real mount, as a worker shows them, over a real daemon."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

import pytest
import trio
import trio.testing

from pachproto import pfs_pb2
from pfsd.errors import PfsError
from pfsfuse.job.jobview import MOUNT_OPTIONS, JobView
from pfsfuse.kernel.namespace import enter_private_namespace
from pfsfuse.kernel.serve import mounted
from tests.pfsfuse.job.test_job import job_inputs, needs_root, shown, viewing
from tests.support.daemons import Daemon

WAIT_SECONDS = 120
PATIENCE = 20
"""Seconds after which a command in the worker counts as hung."""

BIG = hashlib.shake_256(b"big").digest(12 << 20)
FILES = {"/a/1": b"one\n", "/a/2": b"two\n", "/b": b"bee\n", "/empty": b"", "/big": BIG}

pytestmark = needs_root


@dataclass(frozen=True)
class Ran:
    """What became of one datum."""

    printed: str
    streamed: int
    """Bytes that went through pipes."""
    held: int
    """Bytes of chunks that were fetched."""
    open: int
    """Pipes that the worker still has open."""
    nodes: int
    """Inodes that the kernel refers to."""
    error: str


async def run_datum(view: JobView, command: str) -> Ran:
    printed, error = "", ""
    try:
        with trio.fail_after(PATIENCE):
            async with view.pipes.serving():
                done = await trio.run_process(
                    ["bash", "-c", command], capture_stdout=True, stderr=subprocess.STDOUT, check=False
                )
                printed = done.stdout.decode()
    except PfsError as failure:
        error = str(failure)
    await trio.testing.wait_all_tasks_blocked()
    return Ran(printed, view.pipes.streamed, view.content.chunks.held, open_pipes(), len(view.inodes), error)


def open_pipes() -> int:
    found = 0
    with os.scandir("/proc/self/fd") as descriptors:
        for one in descriptors:
            with contextlib.suppress(FileNotFoundError):  # the directory's own
                found += os.readlink(one.path).startswith("/pfs/in")
    return found


def worker(address: str, datums: list[list[dict[str, Any]]], commands: list[str]) -> list[dict[str, Any]]:
    """Run the commands, each with the datum of its place."""
    enter_private_namespace()

    async def run() -> list[dict[str, Any]]:
        made = []
        async with (
            viewing(address) as view,
            mounted(view, "/pfs", options={*MOUNT_OPTIONS, "fsname=pfs:job"}),
            view.pipes.running("/pfs"),
        ):
            for datum, command in zip(datums, commands, strict=True):
                await view.show(job_inputs(datum))
                made.append(asdict(await run_datum(view, command)))
        return made

    return trio.run(run)


def in_worker(daemon: Daemon, datum: list[dict[str, Any]], *commands: str) -> list[Ran]:
    """Run commands, each as a datum of its own, with lazy inputs."""
    datums = [[{**one, "lazy": True} for one in datum] for _ in commands]
    process = subprocess.run(
        [sys.executable, "-m", "tests.pfsfuse.job.test_lazy"],
        input=json.dumps([daemon.address, datums, commands]),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return [Ran(**one) for one in json.loads(process.stdout)]


@pytest.fixture
def source(daemon: Daemon) -> pfs_pb2.Commit:
    daemon.create_repo("r")
    return daemon.commit_files("r", FILES)


def test_looking_never_waits_and_reads_nothing(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    [ran] = in_worker(
        daemon,
        shown(daemon, source, "/"),
        "cd /pfs/in; find . -type p | sort; ls -lR >/dev/null; stat -c '%F %s' big a/1; test -r b && echo b;"
        "test -p empty && echo empty; du -a . >/dev/null; grep -r one . ; ls -a /pfs; tar c . | tar t | sort;"
        "ls /pfs/.pipes",
    )
    assert ran.printed.splitlines() == [
        *("./a/1", "./a/2", "./b", "./big", "./empty"),
        *(f"fifo {len(BIG)}", "fifo 4"),
        *("b", "empty", "in", "out"),
        *("./", "./a/", "./a/1", "./a/2", "./b", "./big", "./empty"),
        "ls: cannot access '/pfs/.pipes': No such file or directory",
    ]
    assert (ran.streamed, ran.held, ran.open) == (0, 0, 0)


def test_each_open_streams_the_file_from_its_start(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    program = (
        "import hashlib, os\n"
        "for _ in range(3):\n"
        "    assert hashlib.sha1(open('/pfs/in/big', 'rb').read()).hexdigest() == '%s'\n"
        "    assert open('/pfs/in/a/1').read() == 'one\\n'\n"
        "    assert open('/pfs/in/empty').read() == ''\n"
        "for line in open('/pfs/in/b'): print(line, end='')\n"
    )
    program %= hashlib.sha1(BIG).hexdigest()
    [ran, again] = in_worker(
        daemon,
        shown(daemon, source, "/"),
        f'{sys.executable} -c "{program}"; cd /pfs/in/a; cat 1 2 1; head -c 2 1; sort < 2',
        "cat /pfs/in/b",
    )
    assert ran.printed == "bee\none\ntwo\none\nontwo\n"
    assert ran.streamed >= 3 * len(BIG)
    assert (again.printed, again.streamed, again.open) == ("bee\n", 4, 0)


def test_a_file_is_the_same_however_often_it_is_opened(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    program = (
        "import os\n"
        "seen = {(os.stat('/pfs/in/b').st_ino, os.stat('/pfs/in/b').st_rdev)}\n"
        "for _ in range(3):\n"
        "    with open('/pfs/in/b') as file: found = os.fstat(file.fileno()); file.read()\n"
        "    seen |= {(found.st_ino, found.st_rdev)}\n"
        "seen |= {(one.inode(), 0) for one in os.scandir('/pfs/in') if one.name == 'b'}\n"
        "print(len(seen), len({os.stat(f'/pfs/in/{name}').st_ino for name in ('a/1', 'a/2', 'b', 'big')}))\n"
    )
    [ran] = in_worker(daemon, shown(daemon, source, "/"), f'{sys.executable} -c "{program}"')
    assert ran.printed == "1 4\n"


def test_what_copies_single_files_copies_their_bytes(
    daemon: Daemon, source: pfs_pb2.Commit, tmp_path: pathlib.Path
) -> None:
    [ran] = in_worker(
        daemon,
        shown(daemon, source, "/"),
        f"cd {tmp_path}; cp /pfs/in/b cp; cp /pfs/in/big /pfs/in/empty .; install -m 600 /pfs/in/b install;"
        "dd if=/pfs/in/b of=dd status=none; cat /pfs/in/b > cat; cp -r --copy-contents /pfs/in/a tree",
    )
    assert ran.printed == ""
    assert {name: (tmp_path / name).read_bytes() for name in ("cp", "install", "dd", "cat")} == dict.fromkeys(
        ("cp", "install", "dd", "cat"), FILES["/b"]
    )
    assert (tmp_path / "big").read_bytes() == BIG
    assert (tmp_path / "empty").read_bytes() == b""
    assert [(tmp_path / "tree" / name).read_bytes() for name in "12"] == [FILES["/a/1"], FILES["/a/2"]]


def test_readers_at_once_get_the_whole_file_each(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    [ran] = in_worker(
        daemon,
        shown(daemon, source, "/"),
        "cd /pfs/in; paste -d, b b a/1; cmp big big && echo same;"
        "seq 40 | xargs -P8 -I{} sh -c 'cat b | md5sum' | sort -u;"
        "seq 8 | xargs -P8 -I{} md5sum big | sort -u; diff b b && echo equal",
    )
    assert ran.printed.splitlines() == [
        "bee,bee,one",
        "same",
        f"{hashlib.md5(FILES['/b']).hexdigest()}  -",
        f"{hashlib.md5(BIG).hexdigest()}  big",
        "equal",
    ]
    assert ran.open == 0


def test_a_reader_that_leaves_early_costs_no_more(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    [ran] = in_worker(daemon, shown(daemon, source, "/"), "head -c 10 /pfs/in/big | wc -c")
    assert ran.printed == "10\n"
    assert ran.streamed <= 128 << 10
    assert 0 < ran.held <= 4 << 20
    assert ran.open == 0


def test_pipes_that_are_reopened_by_descriptor_are_served(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    program = (
        "import os, time\n"
        "fd = os.open('/pfs/in/b', os.O_PATH)\n"
        "time.sleep(1)\n"
        "for _ in range(3): print(open(f'/proc/self/fd/{fd}').read(), end='')\n"
        "big = os.open('/pfs/in/big', os.O_PATH)\n"
        "for _ in range(3):\n"
        "    with open(f'/proc/self/fd/{big}', 'rb') as file: print(file.read(70000) == BIG, end=' ')\n"
    ).replace("BIG", "open('/pfs/in/big', 'rb').read(70000)")
    [ran] = in_worker(
        daemon,
        shown(daemon, source, "/"),
        f'{sys.executable} -c "{program}"; cd /pfs/in/a; sleep 1; cat 2; exec 5< 1; cat <&5',
    )
    assert ran.printed == "bee\n" * 3 + "True " * 3 + "two\none\n"


def test_pipes_can_not_be_written(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    [ran] = in_worker(
        daemon, shown(daemon, source, "/"), "cd /pfs/in; (echo x > b) 2>&1 | grep -o Read-only.*; rm b; cat b"
    )
    assert ran.printed == "Read-only file system\nrm: cannot remove 'b': Read-only file system\nbee\n"


def test_what_is_still_open_at_the_end_of_a_datum_is_let_go(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    readers = "for i in $(seq 50); do exec {fd}< /pfs/in/big; done; head -c 5 <&$fd | md5sum; "
    ran = in_worker(daemon, shown(daemon, source, "/"), readers, readers, "cat /pfs/in/b")
    assert ran[0].printed == ran[1].printed == f"{hashlib.md5(BIG[:5]).hexdigest()}  -\n"
    assert ran[2].printed == "bee\n"
    assert [one.open for one in ran] == [0, 0, 0]


def test_parts_of_a_repo_and_eager_inputs_stand_beside(daemon: Daemon, source: pfs_pb2.Commit) -> None:
    [ran] = in_worker(
        daemon, shown(daemon, source, "/a", "/b"), "cd /pfs; find in -type p | sort; cat in/b in/a/*; ls in/a"
    )
    assert ran.printed.split() == ["in/a/1", "in/a/2", "in/b", "bee", "one", "two", "1", "2"]


def test_a_file_that_is_lost_calls_the_datum_off_instead_of_ending_early(
    daemon: Daemon, source: pfs_pb2.Commit
) -> None:
    for pack in (daemon.root / "spool").iterdir():
        data = bytearray(pack.read_bytes())
        at = data.find(BIG[5 << 20 : (5 << 20) + 64])
        assert at > 0
        data[at] ^= 1
        pack.write_bytes(data)
    ran, after = in_worker(daemon, shown(daemon, source, "/"), "cat /pfs/in/big | wc -c", "cat /pfs/in/b")
    assert "/pfs/in/big can't be read" in ran.error
    assert ran.printed == ""
    assert (after.printed, after.error, after.open) == ("bee\n", "", 0)


def test_small_files_are_fetched_ahead_only_for_who_reads_them_in_order(daemon: Daemon) -> None:
    daemon.create_repo("r")
    given = daemon.commit_files("r", {f"/{number:02}": b"%02d" % number * 500 for number in range(40)})
    ran = in_worker(daemon, shown(daemon, given, "/"), "cd /pfs/in; cat 30 02 20 01", "cat /pfs/in/0[0-9] | wc -c")
    assert ran[0].held == 4000
    assert ran[1].printed == "10000\n"
    assert ran[1].streamed == 10_000
    assert ran[1].held > 14_000


def test_many_files_and_many_opens_keep_nothing(daemon: Daemon) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    count = 3000
    for number in range(count):
        daemon.put(at, f"/d/{number:05}", b"%d\n" % number)
    daemon.finish_commit(at)
    ran, again = in_worker(
        daemon,
        shown(daemon, at, "/"),
        "cd /pfs/in/d; find . | wc -l; ls -l | grep -c ^p; cat * | md5sum",
        "for i in $(seq 500); do cat /pfs/in/d/00001; done | sort -u",
    )
    digest = hashlib.md5(b"".join(b"%d\n" % number for number in range(count))).hexdigest()
    assert ran.printed.split() == [str(count + 1), str(count), digest, "-"]
    assert ran.open == 0
    assert again.printed == "1\n"
    assert again.nodes < ran.nodes + 100


if __name__ == "__main__":
    json.dump(worker(*json.load(sys.stdin)), sys.stdout)

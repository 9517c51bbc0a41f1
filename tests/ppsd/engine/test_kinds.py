"""Pipelines keep and show what files are: modes, times, links, attributes, names of any bytes."""

from __future__ import annotations

import os
import pathlib

import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.pfsfuse.job.test_job import needs_root
from tests.support.daemons import Daemon, commit
from tests.support.mounts import mounting
from tests.support.pipelines import atom, flush, jobs, spec

pytestmark = needs_root

TIME = 1_234_567_890_123_456_789


def chain(daemon: Daemon, *steps: list[str]) -> None:
    """Pipelines `first`, `second`, ...: each reads what the one before made as a whole, the first the repo `in`."""
    daemon.create_repo("in")
    source = "in"
    for name, lines in zip(("first", "second", "third"), steps, strict=False):
        daemon.pps.CreatePipeline(spec(name, lines, input=atom(source, "/"), parallelism_spec={"constant": 1}))
        source = name


def run(daemon: Daemon, files: dict[str, bytes]) -> pfs_pb2.Commit:
    at = daemon.commit_files("in", files)
    flush(daemon, at)
    for job in jobs(daemon, ""):
        assert job.state == pps_pb2.JOB_SUCCESS, job.reason
    return at


def test_a_tool_that_one_pipeline_builds_runs_in_the_next(pipeline_daemon: Daemon) -> None:
    build = ["printf '#!/bin/sh\\necho made by a tool\\n' > /pfs/out/tool", "chmod +x /pfs/out/tool"]
    chain(pipeline_daemon, build, ["/pfs/first/tool > /pfs/out/said"])
    run(pipeline_daemon, {"a": b"a"})
    assert pipeline_daemon.get(commit("second", "master"), "said") == b"made by a tool\n"


MAKE = [
    "cd /pfs/out; umask 022; mkdir -p dir/empty locked",
    "echo data > dir/file; ln dir/file dir/same; ln -s file dir/link; ln -s /pfs/out/dir/file absolute",
    "ln -s not/there dangling; ln -s /pfs/in/a input",
    "echo secret > locked/file; chmod 0640 locked/file; chmod 0700 locked",
    "touch dir/plain; touch -d @1234567890.123456789 dir/file dir/plain locked",
    "touch -h -d @1234567890.123456789 dir/link",
    "printf x > \"$(printf 'caf\\351')\"; chmod 1777 dir/empty",
]
SHOW = [
    "cd /pfs/$SOURCE; stat -c '%n %A %h %Y' dir dir/* locked locked/file input; readlink dir/link absolute dangling",
    "TZ=UTC stat -c %y dir/file dir/plain | sort -u; cat absolute",
    "test dir/file -ef dir/same; test ! dir/file -ef dir/plain",
    "cat \"$(printf 'caf\\351')\"",
]
SHOWN = """\
dir drwxr-xr-x
dir/empty drwxrwxrwt
dir/file -rw-r--r--
dir/link lrwxrwxrwx
dir/plain -rw-r--r--
dir/same -rw-r--r--
locked drwx------
locked/file -rw-r-----
input -rw-r--r--
"""


def test_what_a_command_leaves_is_what_the_next_is_shown(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    show = ["exec > /pfs/out/shown", *(line.replace("$SOURCE", "first") for line in SHOW), "cp -a /pfs/first /pfs/out/"]
    again = ["exec > /pfs/out/shown", *(line.replace("$SOURCE", "second/first") for line in SHOW)]
    chain(pipeline_daemon, MAKE, show, again)
    run(pipeline_daemon, {"a": b"an input"})
    said = pipeline_daemon.get(commit("second", "master"), "shown").decode()
    lines = said.splitlines()
    assert [" ".join(line.split()[:2]) for line in lines[:9]] == SHOWN.splitlines()
    assert [line.split()[2] for line in lines[:9]] == ["1", "1", "2", "1", "1", "2", "1", "1", "1"]
    assert [line.split()[3] for line in lines[2:7]] == ["1234567890"] * 5
    assert lines[9:12] == ["file", "dir/file", "not/there"]
    assert lines[12].split()[:2] == ["2009-02-13", "23:31:30.123456789"]
    assert lines[13:] == ["data", "x"]
    assert pipeline_daemon.get(commit("third", "master"), "shown").decode() == said

    with mounting(pipeline_daemon, tmp_path / "mnt") as mounted:
        top = mounted.path / "first/master"
        assert sorted(os.listdir(os.fsencode(top))) == sorted(
            [b"absolute", b"caf\xe9", b"dangling", b"dir", b"input", b"locked"]
        )
        assert (top / "dir/file").lstat().st_mtime_ns == TIME
        assert (top / "dir/link").lstat().st_size == 4
        one, two = (top / "dir/same").stat(), (top / "dir/file").stat()
        assert (one.st_ino, one.st_nlink) == (two.st_ino, two.st_nlink) == (two.st_ino, 2)
        inodes = {entry.name: entry.inode() for entry in os.scandir(top / "dir")}
        assert inodes["same"] == inodes["file"] == two.st_ino != inodes["plain"]
        assert (top / "absolute").read_bytes() == b"data\n"
        assert pathlib.Path(os.fsdecode(os.fsencode(top) + b"/caf\xe9")).read_bytes() == b"x"
        with pytest.raises(OSError, match="Read-only"):
            (top / "dir/file").open("r+b")


def test_times_and_links_alone_make_nothing_new(pipeline_daemon: Daemon) -> None:
    make = [
        "mkdir /pfs/out/d /pfs/out/e; cat /pfs/in/* > /pfs/out/d/f; ln /pfs/out/d/f /pfs/out/d/g; date +%N > /dev/null"
    ]
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec("first", make, input=atom("in", "/")))
    daemon.pps.CreatePipeline(spec("second", ["ls -R /pfs/first > /pfs/out/$(ls /pfs/first)"], input=atom("first")))
    run(daemon, {"a": b"1", "b": b"2"})
    times = [change_time(daemon, "d/f")]
    at = daemon.start_commit("in")
    for path, data in (("a", b"12"), ("b", b"")):  # the same when joined
        daemon.put(at, path, data, overwrite=True)
    daemon.finish_commit(at)
    flush(daemon, at)
    times.append(change_time(daemon, "d/f"))

    assert times[0] != times[1]
    last = jobs(daemon, "second")[-1]
    assert (last.data_total, last.data_processed, last.data_skipped) == (2, 0, 2)

    daemon.put(at := daemon.start_commit("in"), "b", b"3")
    daemon.finish_commit(at)
    flush(daemon, at)
    last = jobs(daemon, "second")[-1]
    assert (last.data_total, last.data_processed, last.data_skipped) == (2, 1, 1)


def change_time(daemon: Daemon, path: str) -> int:
    file = pfs_pb2.File(commit=commit("first", "master"), path=path)
    info: pfs_pb2.FileInfo = daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=file))
    return info.attributes.modified.ToNanoseconds()


def test_extended_attributes_travel(pipeline_daemon: Daemon, tmp_path: pathlib.Path) -> None:
    set_and_get = (
        "import os, sys; path = '/pfs/out/f'; open(path, 'w').close(); os.setxattr(path, 'user.note', b'mine'); "
        "os.setxattr('/pfs/out', 'user.pfs.hash', b'x')"
    )
    show = "import os; print(os.getxattr('/pfs/first/f', 'user.note'), sorted(os.listxattr('/pfs/first/f')))"
    probe = tmp_path / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.note", b"")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    chain(pipeline_daemon, [f'python3 -c "{set_and_get}"'], [f'python3 -c "{show}" > /pfs/out/shown'])
    run(pipeline_daemon, {"a": b"a"})
    shown = pipeline_daemon.get(commit("second", "master"), "shown").decode()
    assert shown == "b'mine' ['user.note']\n"


def test_outputs_of_several_datums_are_merged_with_what_they_keep(pipeline_daemon: Daemon) -> None:
    make = [
        "cd /pfs/out; name=$(ls /pfs/in); echo $name > $name; chmod 700 $name",
        "ln -s $name link-$name; ln $name hard-$name",
        "mkdir both; chmod 750 both; ln -s ../a both/same; echo $name > both/$name",
        "echo $name > joined; chmod 755 joined",
    ]
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec("first", make, input=atom("in")))
    show = "cd /pfs/first; stat -c '%n %A %h' * both/* > /pfs/out/shown; cat link-b both/same joined >> /pfs/out/shown"
    daemon.pps.CreatePipeline(spec("second", [show], input=atom("first", "/")))
    run(daemon, {"a": b"1", "b": b"2"})
    assert daemon.get(commit("second", "master"), "shown").decode().splitlines() == [
        "a -rwx------ 2",
        "b -rwx------ 2",
        "both drwxr-x--- 1",
        "hard-a -rwx------ 2",
        "hard-b -rwx------ 2",
        "joined -rwxr-xr-x 1",
        "link-a lrwxrwxrwx 1",
        "link-b lrwxrwxrwx 1",
        "both/a -rw-r--r-- 1",
        "both/b -rw-r--r-- 1",
        "both/same lrwxrwxrwx 1",
        *("b", "a", "a", "b"),
    ]


def test_an_incremental_pipeline_finds_its_output_as_it_left_it(pipeline_daemon: Daemon) -> None:
    lines = [
        "cd /pfs/out; if [ -e log ]; then stat -c '%n %A %h %Y' f g link d d/* >> log; readlink link >> log",
        "  cat \"$(printf 'caf\\351')\" >> log; exit; fi",
        "mkdir d; echo data > f; ln f g; ln -s f link; echo t > d/tool; chmod 711 d/tool; chmod 500 d; touch log",
        "echo ok > \"$(printf 'caf\\351')\"; touch -h -d @1234567890 f link d d/tool",
    ]
    daemon = pipeline_daemon
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(spec("first", lines, input=atom("in", "/"), incremental=True))
    run(daemon, {"a": b"1"})
    run(daemon, {"b": b"1"})
    assert daemon.get(commit("first", "master"), "log").decode().splitlines() == [
        "f -rw-r--r-- 2 1234567890",
        "g -rw-r--r-- 2 1234567890",
        "link lrwxrwxrwx 1 1234567890",
        "d dr-x------ 2 1234567890",
        "d/tool -rwx--x--x 1 1234567890",
        "f",
        "ok",
    ]


def test_lazy_inputs_show_links_and_directories_as_they_are(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    make = ["cd /pfs/out; mkdir d; echo data > d/f; ln d/f d/g; ln -s f d/link; chmod 700 d"]
    chain(daemon, make)
    lines = [
        "cd /pfs/first; stat -c '%n %F %a' d d/* > /pfs/out/shown; cat d/link d/g >> /pfs/out/shown; cp -a d /pfs/out"
    ]
    lazy = {"atom": {"repo": "first", "glob": "/", "lazy": True}}
    daemon.pps.CreatePipeline(spec("second", lines, input=lazy))
    run(daemon, {"a": b"a"})
    made = commit("second", "master")
    assert daemon.get(made, "shown").decode().splitlines() == [
        "d directory 700",
        "d/f fifo 444",
        "d/g fifo 444",
        "d/link symbolic link 777",
        "data",
        "data",
    ]
    assert daemon.get(made, "d/f") == daemon.get(made, "d/link") == b"data\n"

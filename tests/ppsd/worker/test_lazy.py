"""Pipelines with lazy inputs, and what programs may do in /pfs/out: a real daemon, real workers."""

from __future__ import annotations

import os
import sys
from typing import Any

import grpc
import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.pfsfuse.job.test_job import needs_root
from tests.support.daemons import Daemon
from tests.support.pipelines import flush, jobs, spec

pytestmark = needs_root

MIB = 1 << 20


def lazy(stdin: list[str], glob: str = "/", **more: Any) -> pps_pb2.CreatePipelineRequest:
    """A pipeline of one worker over a lazy input."""
    return spec(
        stdin=stdin,
        input={"atom": {"repo": "in", "glob": glob, "lazy": True}},
        parallelism_spec={"constant": 1},
        **more,
    )


def computed(daemon: Daemon, request: pps_pb2.CreatePipelineRequest, given: pfs_pb2.Commit) -> pfs_pb2.Commit:
    """The output commit that a new pipeline makes of `given`."""
    daemon.pps.CreatePipeline(request)
    [made] = flush(daemon, given)
    return made.commit


def downloaded(daemon: Daemon) -> int:
    [job] = jobs(daemon)
    return job.stats.download_bytes


@pytest.fixture
def source(pipeline_daemon: Daemon) -> pfs_pb2.Commit:
    pipeline_daemon.create_repo("in")
    files = {f"/{number:02}": os.urandom(MIB) for number in range(20)}
    return pipeline_daemon.commit_files("in", {**files, "/small": b"small\n"})


def test_only_the_file_that_is_read_is_downloaded(pipeline_daemon: Daemon, source: pfs_pb2.Commit) -> None:
    lines = ["test -p /pfs/in/07; cd /pfs/in", "cat 07 > /pfs/out/seven", "cat small small > /pfs/out/twice"]
    made = computed(pipeline_daemon, lazy(lines), source)
    assert pipeline_daemon.get(made, "seven") == pipeline_daemon.get(source, "07")
    assert pipeline_daemon.get(made, "twice") == b"small\nsmall\n"
    assert downloaded(pipeline_daemon) == MIB + 12


def test_eager_inputs_count_whole(pipeline_daemon: Daemon, source: pfs_pb2.Commit) -> None:
    request = lazy(["test -f /pfs/in/07"])
    request.input.atom.lazy = False
    computed(pipeline_daemon, request, source)
    assert downloaded(pipeline_daemon) == 20 * MIB + 6


def test_a_shuffle_by_symlinks_transfers_nothing(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    names = [f"{day}-{hour:02}" for day in ("mon", "tue") for hour in range(5)]
    given = daemon.commit_files("in", {f"/{name}": os.urandom(MIB) for name in names})
    lines = [
        "cd /pfs/in; for f in *; do mkdir -p /pfs/out/${f%-*}; ln -s /pfs/in/$f /pfs/out/${f%-*}/${f#*-}; done",
        "ln -s /pfs/in /pfs/out/all; ls -lRL /pfs/out",
    ]
    made = computed(daemon, lazy(lines), given)
    assert daemon.list(made, "mon") == [f"mon/{hour:02}" for hour in range(5)]
    assert daemon.get(made, "tue/03") == daemon.get(made, "all/tue-03") == daemon.get(given, "tue-03")
    [job] = jobs(daemon)
    assert job.stats.download_bytes == 0
    assert job.stats.upload_bytes < MIB


def test_the_head_of_a_large_file_costs_only_that(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    block = os.urandom(MIB)
    given = daemon.commit_files("in", {"/big": b"".join(block[at:] + block[:at] for at in range(100))})
    made = computed(daemon, lazy(["head -c 10 /pfs/in/big > /pfs/out/head"]), given)
    assert daemon.get(made, "head") == block[:10]
    assert downloaded(daemon) <= 128 << 10


def test_readers_that_are_left_behind_do_not_disturb_the_next_datum(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    given = daemon.commit_files("in", {f"/{number}": b"%d" % number * MIB for number in range(6)})
    lines = ["sleep 1000 < $in & exec 5< $in 6< $in", "head -c 1 <&5 > /pfs/out/$(basename $in)"]
    made = computed(daemon, lazy(lines, "/*"), given)
    assert [daemon.get(made, str(number)) for number in range(6)] == [b"%d" % number for number in range(6)]


def test_a_lazy_file_that_is_lost_fails_the_datum(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    data = os.urandom(8 * MIB)
    given = daemon.commit_files("in", {"/f": data})
    for pack in (daemon.root / "spool").iterdir():
        held = bytearray(pack.read_bytes())
        held[held.find(data[6 * MIB : 6 * MIB + 32])] ^= 1
        pack.write_bytes(held)
    with pytest.raises(grpc.RpcError, match="lazy input /pfs/in/f can't be read"):
        computed(daemon, lazy(["cat /pfs/in/f > /pfs/out/f || true"]), given)
    [job] = jobs(daemon)
    assert job.state == pps_pb2.JOB_FAILURE


def test_what_copies_trees_copies_what_lazy_files_hold(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    files = {"/a": os.urandom(MIB), "/d/b": b"small\n", "/d/e/c": b""}
    source = daemon.commit_files("in", files)
    lines = [
        "cp -r /pfs/in /pfs/out/r; cp -r /pfs/in /pfs/out/; cp -a /pfs/in/d /pfs/out/",
        "mkdir /pfs/out/t /pfs/out/u; tar cC /pfs/in . | tar xC /pfs/out/t; tar c /pfs/in | tar xC /pfs/out/u",
    ]
    made = computed(daemon, lazy(lines), source)
    for top in ("r", "in", "t", "u/pfs/in"):
        for path, data in files.items():
            assert daemon.get(made, f"{top}{path}") == data, (top, path)
    assert daemon.get(made, "d/b") == b"small\n"
    assert downloaded(daemon) == 0


def test_a_pipe_that_is_no_copy_is_refused_by_name(pipeline_daemon: Daemon, source: pfs_pb2.Commit) -> None:
    with pytest.raises(grpc.RpcError, match="/pfs/out/sub/mine is a named pipe"):
        computed(pipeline_daemon, lazy(["mkdir /pfs/out/sub; mkfifo /pfs/out/sub/mine"]), source)


POSIX = """
import fcntl, mmap, os
os.chdir('/pfs/out')
open('one', 'w').write('one')
os.link('one', 'hard')
os.symlink('one', 'soft')
os.mkdir('d'); open('d/x', 'w').write('x'); os.rename('d', 'e'); os.rename('e/x', 'e/y')
with open('map', 'w+b') as f:
    f.truncate(8192)
    with mmap.mmap(f.fileno(), 8192) as m:
        m[4096:4101] = b'there'
with open('locked', 'w') as f:
    fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_EX); f.write('mine')
with open('sparse', 'wb') as f:
    f.truncate(256 << 20); f.seek(100 << 20); f.write(b'island')
open('closed', 'w').write('shut'); os.chmod('closed', 0)
os.mkdir('shut'); open('shut/in', 'w').write('in'); os.chmod('shut', 0)
os.mkdir('many')
for n in range(20000): open(f'many/{n}', 'w').write(str(n))
open('gone', 'w').write('gone'); os.unlink('gone')
os.umask(0o777); open('last', 'w').write('last')
"""


def test_what_programs_do_in_the_output_is_stored(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("in")
    request = lazy([])
    request.transform.cmd[:] = [sys.executable, "-c", POSIX]
    made = computed(daemon, request, daemon.commit_files("in", {"/f": b"f"}))
    expected = {"one": b"one", "hard": b"one", "soft": b"one", "e/y": b"x", "locked": b"mine", "closed": b"shut"}
    expected |= {"shut/in": b"in", "last": b"last", "many/19999": b"19999"}
    expected["map"] = bytes(4096) + b"there" + bytes(4091)
    assert {path: daemon.get(made, path) for path in expected} == expected
    tops = "closed e hard last locked many map one shut soft sparse"
    assert daemon.list(made) == tops.split()
    assert len(daemon.list(made, "many")) == 20_000
    sparse = daemon.get(made, "sparse")
    assert len(sparse) == 256 * MIB
    assert sparse.strip(b"\0") == b"island"
    assert sparse.find(b"island") == 100 * MIB
    packs = [file for part in ("spool", "objects") for file in (daemon.root / part).rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in packs) < 20 * MIB  # holes take no space

"""Packs that a collection removed: whoever had them open closes them, so that their room is free."""

from __future__ import annotations

import os
import pathlib
import random

import pytest
from google.protobuf.empty_pb2 import Empty

from pachproto import pfs_pb2, pfsd_pb2
from pfsd import rpc
from tests.support.daemons import Daemon
from tests.support.mounts import mounting
from tests.support.pipelines import flush, spec, until, workers

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


def open_packs(process: int, root: pathlib.Path) -> list[str]:
    """The packs of a root that a process has open, with the kernel's mark where they are removed."""
    found = []
    for entry in pathlib.Path(f"/proc/{process}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except FileNotFoundError:  # closed just now
            continue
        if target.startswith((f"{root}/spool/", f"{root}/objects/packs/")):
            found.append(target)
    return found


def test_a_mount_and_a_worker_close_packs_that_a_collection_removed(
    pipeline_daemon: Daemon, tmp_path: pathlib.Path
) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("junk")
    daemon.commit_files("junk", {"large": random.Random(1).randbytes(8 << 20)})
    daemon.create_repo("in")
    body = random.Random(2).randbytes(1 << 20)
    given = daemon.commit_files("in", {"a": body})
    daemon.pps.CreatePipeline(spec("copy", ["cat /pfs/in/a > /pfs/out/a"]))
    flush(daemon, given)
    with mounting(daemon, tmp_path / "mnt") as mounted:
        assert (mounted.path / "in" / "master" / "a").read_bytes() == body
        assert daemon.process is not None
        processes = [daemon.process.pid, mounted.process.pid, *workers(daemon)]
        holding = [process for process in processes if open_packs(process, daemon.root)]
        assert len(holding) >= 3, "the daemon, the mount, and the worker that had the datum have the pack open"
        daemon.pfs.DeleteRepo(pfs_pb2.DeleteRepoRequest(repo=pfs_pb2.Repo(name="junk")))
        admin = rpc.Stub(daemon.channel, pfsd_pb2.DESCRIPTOR.services_by_name["Admin"])
        assert admin.CollectGarbage(Empty()).packs_rewritten == 1
        until(lambda: not any("(deleted)" in name for each in processes for name in open_packs(each, daemon.root)))
        assert (mounted.path / "in" / "master" / "a").read_bytes() == body

"""Ordinary tools and the test suites of others write through a mount."""

from __future__ import annotations

import os
import pathlib
import shutil
import threading

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted
from tests.support.openwrites import finish

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

# --- ordinary tools --------------------------------------------------------------------------------------------


def test_cp_tar_rm_and_git_work(daemon: Daemon, mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path) -> None:
    source = tmp_path / "source"
    for number in range(300):
        (source / f"d{number % 7}").mkdir(parents=True, exist_ok=True)
        (source / f"d{number % 7}" / str(number)).write_bytes(b"%d\n" % number * number)
    mounted.run("cp", "-rp", str(source), "r/master/copy")
    mounted.run("diff", "-r", str(source), "r/master/copy")
    mounted.run("tar", "cf", str(tmp_path / "x.tar"), "-C", str(source), ".")
    (master / "untarred").mkdir()
    mounted.run("tar", "xf", str(tmp_path / "x.tar"), "-C", "r/master/untarred")
    mounted.run("rm", "-r", "r/master/copy/d1", "r/master/untarred/d2")
    mounted.run("git", "init", "-q", "r/master/repo")
    git = ["git", "-C", "r/master/repo", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    shutil.copytree(source / "d3", master / "repo/d3")
    mounted.run(*git, "add", ".")
    mounted.run(*git, "commit", "-qm", "first")
    mounted.run("git", "clone", "-q", "r/master/repo", "r/master/clone")
    assert mounted.run("git", "-C", "r/master/clone", "status", "--porcelain") == b""
    finish(master)
    mounted.run("git", "-C", "r/master/clone", "fsck", "--strict")
    mounted.run("cp", "-r", "r/master", str(tmp_path / "back"))
    mounted.run("diff", "-r", "r/master/repo/d3", str(source / "d3"))
    assert not (tmp_path / "back/copy/d1").exists()
    shutil.rmtree(source / "d2")
    mounted.run("diff", "-r", str(source), str(tmp_path / "back/untarred"))


def test_a_list_is_whole_while_what_it_shows_is_being_sent(master: pathlib.Path) -> None:
    def send() -> None:
        while not done.is_set():
            os.setxattr(master, "user.pfs.flush", b"")

    done = threading.Event()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        for number in range(300):
            place = master / f"top{number}/sub"
            place.mkdir(parents=True)
            names = [f"{one}" for one in range(6)]
            for name in names:
                (place / name).write_bytes(b"x")
                assert sorted(os.listdir(place)) == names[: names.index(name) + 1]
            with pytest.raises(OSError, match="not empty"):
                place.rmdir()
    finally:
        done.set()
        sender.join()

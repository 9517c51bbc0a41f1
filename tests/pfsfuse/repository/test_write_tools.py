"""Ordinary tools and the test suites of others write through a mount."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import subprocess
import threading

import pytest

from tests.support.daemons import Daemon
from tests.support.mounts import Mounted
from tests.support.openwrites import finish, stored

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


# --- suites of others ------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("fsx") is None, reason="needs fsx (cargo install fsx)")
def test_fsx(daemon: Daemon, mounted: Mounted, master: pathlib.Path) -> None:
    mounted.run("fsx", "-N", "500", "-S", "3", "r/master/fsx")
    finish(master)
    assert stored(daemon)["/fsx"] == (master / "fsx").read_bytes()


LEFT_OUT = {
    r"^(link|symlink|mkfifo|mknod)::|:(block|char|fifo|socket|symlink)$|symlink|eloop|multiply_linked|nofollow":
        "hard and symbolic links and special files are refused",
    r"^(chmod|chown)::|permission_bits|uid_gid|etxtbsy|write_access|affected_create_flags":
        "modes and owners are not kept",
    r"unchanged_ctime_failed|preserve_metadata|update_ctime": "there is no link count and no time of change to keep",
    r"updates_link_parent": "directories do not count links",
    r"sparse": "blocks are not counted",
    r"socket_error|fifo_nonblock": "special files are refused",
}  # fmt: skip


@pytest.mark.skipif(shutil.which("pjdfstest") is None, reason="needs pjdfstest (cargo install pjdfstest)")
def test_pjdfstest_but_for_what_is_left_out(mounted: Mounted, master: pathlib.Path, tmp_path: pathlib.Path) -> None:
    settings = tmp_path / "pjdfstest.toml"
    users = '[["nobody", "nogroup"], ["daemon", "daemon"], ["bin", "bin"]]'
    settings.write_text(f"[features]\n[settings]\nnaptime = 0.01\n[dummy_auth]\nentries = {users}\n")
    command = ["pjdfstest", "-c", str(settings), "-p", str(master / "dir")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    failed = re.findall(r"^(\S+::\S+)\s+FAILED", re.sub(r"\x1b\[[0-9;]*m", "", result.stdout), re.MULTILINE)
    passed = re.findall(r"^(\S+::\S+)\s+ok", re.sub(r"\x1b\[[0-9;]*m", "", result.stdout), re.MULTILINE)
    assert [name for name in failed if not any(re.search(pattern, name) for pattern in LEFT_OUT)] == []
    assert len(passed) > 100


@pytest.mark.skipif(shutil.which("stress-ng") is None, reason="needs stress-ng")
def test_stress_ng_finds_no_difference(mounted: Mounted, master: pathlib.Path) -> None:
    options = ["--verify", "--hdd-bytes", "1m", "--temp-path", str(master)]
    for stressor in ("hdd", "rename", "dentry"):
        more = ["--dentries", "50"] if stressor == "dentry" else []
        mounted.run("stress-ng", f"--{stressor}", "1", f"--{stressor}-ops", "50", *options, *more)
    assert master.is_dir()

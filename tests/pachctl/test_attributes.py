"""What `pachctl put-file` keeps of files beside their bytes, and `get-file` gives back."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess

import pytest

from pachctl.files import keeping
from pachctl.files.keeping import HardLinks
from pachctl.files.restoring import Restoring
from pachproto import pfs_pb2
from pfsd.trees import attributes
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import SpecialEntry
from tests.pachctl.test_bulk import without_extensions
from tests.support.daemons import Daemon, commit, running
from tests.support.pachctl import error, found, out
from tests.support.putfiles import BODY

TIME = 1_234_567_890_123_456_789


def make_tree(top: pathlib.Path) -> None:
    """A directory with all that is kept."""
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "sub" / "deep" / "empty").write_bytes(b"")
    (top / "run").write_text("#!/bin/sh\n")
    (top / "run").chmod(0o755)
    (top / "secret").write_bytes(b"s")
    (top / "secret").chmod(0o400)
    (top / "sub" / "large").write_bytes(BODY)
    os.link(top / "sub" / "large", top / "again")
    os.link(top / "secret", top / "sub" / "secret")
    (top / "sub" / "up").symlink_to("../run")
    (top / "out").symlink_to("/nowhere/at/all")
    os.symlink(b"caf\xe9", top / "bytes")
    pathlib.Path(os.fsdecode(bytes(top) + b"/caf\xe9")).write_bytes(b"latin")
    os.mkfifo(top / "pipe", 0o640)
    for path in sorted(top.rglob("*")):
        os.utime(path, ns=(TIME, TIME + len(str(path))), follow_symlinks=False)
    (top / "sub").chmod(0o2770)
    (top / "sub" / "deep").chmod(0o700)
    for path in (top / "sub" / "deep", top / "sub"):
        os.utime(path, ns=(TIME, -TIME))


def snapshot(top: pathlib.Path) -> dict[bytes, tuple[object, ...]]:
    """All that is kept of what is below a directory."""
    first: dict[int, bytes] = {}
    seen: dict[bytes, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status, name = path.lstat(), os.fsencode(path.relative_to(top))
        kind = stat.S_IFMT(status.st_mode)
        data = os.readlink(bytes(path)) if kind == stat.S_IFLNK else path.read_bytes() if kind == stat.S_IFREG else b""
        mode, owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        linked = b"" if kind == stat.S_IFDIR else first.setdefault(status.st_ino, name)
        seen[name] = (kind, mode, owner, status.st_mtime_ns, data, linked)
    return seen


def test_a_directory_comes_back_as_it_was(daemon: Daemon, clidir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make_tree(clidir)
    if os.geteuid() == 0:
        os.chown(clidir / "run", 1234, 5678)
        os.chown(clidir / "sub" / "up", 1234, 0, follow_symlinks=False)
        os.chown(clidir / "sub" / "deep", 0, 77)
    (clidir / "nothing" / "in").mkdir(parents=True)
    clidir.chmod(0o711)
    os.utime(clidir, ns=(TIME, TIME))
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "there", "-c", "-r", "-f", "clidir")
    out(daemon, "get-file", "r", "master", "/", "-r", "-o", "got")
    expected = {name: kept for name, kept in snapshot(clidir).items() if not name.startswith(b"nothing")}
    assert snapshot(tmp_path / "got" / "there") == expected
    out(daemon, "get-file", "r", "master", "there", "-r", "-o", "got/other")
    for other in ("got/there", "got/other"):
        status = pathlib.Path(other).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o711, TIME)
    out(daemon, "get-file", "r", "master", "there", "-r", "-o", "got/there")  # over what is there
    assert snapshot(tmp_path / "got" / "there") == expected


def test_the_same_put_again_changes_nothing(daemon: Daemon, clidir: pathlib.Path) -> None:
    make_tree(clidir)
    daemon.create_repo("r")
    seen = []
    for _ in range(2):
        out(daemon, "put-file", "r", "master", "-c", "-o", "-r", "-f", "clidir")
        (repo,) = daemon.pfs.ListRepo(pfs_pb2.ListRepoRequest()).repo_info
        seen.append((daemon.store.GetCommitTree(commit("r", "master")).root, repo.size_bytes))
    assert seen[0] == seen[1]


def test_extended_attributes_of_users_come_back(daemon: Daemon, clidir: pathlib.Path) -> None:
    names = {"user.a": b"\0\xff", "user.b": b""}
    try:
        for path in (clidir / "a.txt", clidir / "sub"):
            for name, value in names.items():
                os.setxattr(path, name, value)
    except OSError as refused:
        pytest.skip(f"no extended attributes here: {refused}")
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", "clidir")
    out(daemon, "get-file", "r", "master", "/", "-r", "-o", "got")
    for path in (pathlib.Path("got/a.txt"), pathlib.Path("got/sub")):
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == names
    assert "Attribute: user.a=\\x00\\xff\n" in out(daemon, "inspect-file", "r", "master", "a.txt")


def test_what_a_file_system_can_not_take_is_told_once(tmp_path: pathlib.Path) -> None:
    told: list[str] = []
    restoring = Restoring(told.append)
    for name in ("a", "b"):
        with open(tmp_path / name, "wb") as file:
            restoring.file(file.fileno(), Attributes(xattrs=((b"unknown.name", b"x"),)))
    assert len(told) == 1
    assert told[0].startswith("extended attributes are left out: ")
    assert not restoring.can_make(SpecialEntry(12))
    assert "sockets" in told[1]


def test_what_runs_as_its_owner_does_so_only_where_that_is_kept(tmp_path: pathlib.Path) -> None:
    restoring = Restoring(print)
    path = tmp_path / "a"
    with open(path, "wb") as file:
        restoring.file(file.fileno(), Attributes(mode=0o6755))
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    if os.geteuid() == 0:
        path.chmod(0o6755)
        kept = attributes.decode(keeping.of_local(str(path), path.stat()))
        assert kept.owner == (0, 0)
        with open(path, "wb") as file:
            restoring.file(file.fileno(), kept)
        assert stat.S_IMODE(path.stat().st_mode) == 0o6755


def test_a_single_file_is_executable_and_has_its_time(daemon: Daemon, clidir: pathlib.Path) -> None:
    (clidir / "a.txt").chmod(0o751)
    os.utime(clidir / "a.txt", ns=(TIME, TIME))
    (clidir / "link").symlink_to("a.txt")
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "-c", "-f", "clidir/a.txt", "-f", "clidir/link")
    for name in ("a.txt", "link"):  # what the user names is followed
        out(daemon, "get-file", "r", "master", f"clidir/{name}", "-o", name)
        status = pathlib.Path(name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o755 & ~umask() & 0o751 | 0o644 & ~umask(), TIME)


def umask() -> int:
    old = os.umask(0o022)
    os.umask(old)
    return old


def test_a_single_file_behind_links_has_what_the_file_keeps(daemon: Daemon, clidir: pathlib.Path) -> None:
    top = clidir / "top"
    (top / "sub").mkdir(parents=True)
    (top / "caf\xe9").write_text("tool")
    (top / "caf\xe9").chmod(0o755)
    os.utime(top / "caf\xe9", ns=(TIME, TIME))
    (top / "sub" / "first").symlink_to("../sub/second")
    (top / "sub" / "second").symlink_to("../caf\xe9")
    (top / "through").symlink_to("sub")
    daemon.create_repo("r")
    out(daemon, "put-file", "-c", "-r", "r", "master", "-f", "clidir/top")
    for name in ("sub/first", "sub/second", "through/first"):
        out(daemon, "get-file", "r", "master", f"clidir/top/{name}", "-o", "clidir/got")
        status = (clidir / "got").stat()
        assert (clidir / "got").read_text() == "tool"
        assert (status.st_mode & 0o100, status.st_mtime_ns) == (0o100, TIME), name
        (clidir / "got").unlink()
    out(daemon, "get-file", "-r", "r", "master", "clidir/top/through", "-o", "clidir/below")
    assert sorted(os.listdir(clidir / "below")) == ["first", "second"]
    said = error(daemon, "get-file", "-r", "r", "master", "clidir/top/caf\xe9", "-o", "clidir/x")
    assert "is a file: get it without -r" in said
    assert not (clidir / "x").exists()


def test_names_and_bytes_alone(daemon: Daemon, clidir: pathlib.Path) -> None:
    (clidir / "a.txt").chmod(0o755)
    (clidir / "link").symlink_to("sub")
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "/", "-c", "-r", "--no-attributes", "-f", "clidir")
    out(daemon, "put-file", "r", "single", "/", "-c", "--no-attributes", "-f", "clidir/a.txt")
    with without_extensions(daemon):
        out(daemon, "put-file", "r", "old", "/", "-c", "-r", "-f", "clidir")
    assert found(daemon, "r") == {"/a.txt": 2, "/sub/b.txt": 2, "/link/b.txt": 2}
    for branch in ("master", "old"):
        info = json.loads(out(daemon, "inspect-file", "r", branch, "a.txt", "--raw"))
        assert "attributes" not in info
    trees = [daemon.store.GetCommitTree(commit("r", branch)).root for branch in ("master", "old")]
    assert trees[0] == trees[1]


def test_a_copy_from_a_daemon_keeps_all(daemon: Daemon, clidir: pathlib.Path, tmp_path: pathlib.Path) -> None:
    make_tree(clidir)
    daemon.create_repo("r")
    with running(tmp_path / "other", "--no-pipelines") as other:
        other.create_repo("source")
        out(other, "put-file", "source", "master", "/", "-c", "-r", "-f", "clidir")
        base = f"pfs://{other.address}/source/master"
        out(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", base)
        out(daemon, "put-file", "r", "one", "x", "-c", "-f", f"{base}/run")
        out(daemon, "put-file", "r", "two", "x", "-c", "-f", f"{base}/sub/up")
        tree = other.store.GetCommitTree(commit("source", "master"))
    assert daemon.store.GetCommitTree(commit("r", "master")).root == tree.root
    assert "Mode: 0755\n" in out(daemon, "inspect-file", "r", "one", "x")
    assert daemon.get(commit("r", "two"), "x") == b"#!/bin/sh\n"


def test_what_is_inspected_and_listed(daemon: Daemon, clidir: pathlib.Path) -> None:
    make_tree(clidir)
    if os.geteuid() == 0:
        os.chown(clidir / "run", 1234, 5678)
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", "clidir")
    lines = out(daemon, "inspect-file", "r", "master", "run").splitlines()
    assert lines[:5] == ["Path: run", "Type: file", "Size: 10B", "Children:", "Mode: 0755"]
    if os.geteuid() == 0:
        assert lines[5] == "Owner: 1234:5678"
    assert lines[-1].startswith("Modified: 2009-02-13T23:31:30.12345")
    assert "Link to: ../run\n" in out(daemon, "inspect-file", "r", "master", "sub/up")
    assert "Link to: caf\\xe9\n" in out(daemon, "inspect-file", "r", "master", "bytes")
    assert "Special: named pipe\n" in out(daemon, "inspect-file", "r", "master", "pipe")
    assert "Hard link: " in out(daemon, "inspect-file", "r", "master", "again")
    assert "Type: file" in out(daemon, "inspect-file", "r", "master", "caf\uf7e9")
    assert daemon.pachctl("get-file", "r", "master", os.fsdecode(b"caf\xe9")).stdout == b"latin"
    raw = json.loads(out(daemon, "inspect-file", "r", "master", "run", "--raw"))
    assert raw["attributes"]["mode"] == 0o755
    listed = out(daemon, "list-file", "r", "master", "sub").splitlines()
    assert [line.split()[1:] for line in listed] == [
        ["TYPE", "SIZE"],
        ["file", "2B"],
        ["dir", "0B"],
        ["file", "5.722MiB"],
        ["file", "1B"],
        ["file", "10B"],
    ]


def test_hard_links_follow_from_where_the_first_name_is_put(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").write_text("a")
    os.link(tmp_path / "a", tmp_path / "b")
    status = (tmp_path / "a").stat()
    links = HardLinks()
    first, second = links.link(status, "/x/a"), links.link(status, "x/b")
    assert first == second == HardLinks().link(status, "x/a")
    assert links.link(status, "y/a") not in (b"", first)
    os.unlink(tmp_path / "b")
    assert links.link((tmp_path / "a").stat(), "x/a") == b""


def test_a_device_is_named_and_others_go_on(daemon: Daemon, clidir: pathlib.Path) -> None:
    try:
        os.mknod(clidir / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError as refused:
        pytest.skip(f"no devices here: {refused}")
    daemon.create_repo("r")
    assert error(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", "clidir") == (
        "clidir/null is left out: it is a device\n"
    )
    assert found(daemon, "r").keys() == {"/a.txt", "/sub/b.txt"}


def test_a_link_that_get_file_makes_leads_nothing_out(daemon: Daemon, clidir: pathlib.Path) -> None:
    (clidir / "out").symlink_to("../outside")
    pathlib.Path("outside").mkdir()
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", "clidir")
    out(daemon, "put-file", "r", "other", "/", "-c", "-r", "-f", "clidir", "--no-attributes")
    pathlib.Path("outside/x").write_text("x")
    out(daemon, "put-file", "r", "other", "/", "-c", "-r", "-f", "clidir", "--no-attributes")
    out(daemon, "get-file", "r", "master", "/", "-r", "-o", "got")
    pathlib.Path("outside/x").unlink()
    assert "is a symlink" in error(daemon, "get-file", "r", "other", "/", "-r", "-o", "got")
    assert not os.listdir("outside")


def test_the_bits_are_exact_whatever_the_umask(daemon: Daemon, clidir: pathlib.Path) -> None:
    (clidir / "a.txt").chmod(0o666)
    (clidir / "sub" / "b.txt").chmod(0o644)
    daemon.create_repo("r")
    out(daemon, "put-file", "r", "master", "/", "-c", "-r", "-f", "clidir")
    old = os.umask(0o077)
    try:
        out(daemon, "get-file", "r", "master", "/", "-r", "-o", "got")
    finally:
        os.umask(old)
    modes = subprocess.run(
        ["stat", "-c", "%a", "got/a.txt", "got/sub/b.txt", "got/sub"], capture_output=True, check=True, text=True
    ).stdout.split()
    assert modes == ["666", "644", f"{stat.S_IMODE((clidir / 'sub').stat().st_mode):o}"]

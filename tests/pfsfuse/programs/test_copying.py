"""rsync, cp and tar copy into a commit, and out of it, all that files are."""

from __future__ import annotations

import os
import pathlib

from tests.pfsfuse.programs.work import Work, contents, need
from tests.support.openwrites import described

TIME = 1_234_567_890_123_456_000


def make_tree(top: pathlib.Path) -> None:
    """Modes, links, times, extended attributes and a pipe."""
    top.mkdir()
    for number in range(50):
        (top / f"d{number % 4}").mkdir(exist_ok=True)
        file = top / f"d{number % 4}/{number}"
        file.write_bytes(bytes([number]) * (number * 997))
        file.chmod(0o600 + number % 64)
    (top / "script").write_text("#!/bin/sh\necho ran\n")
    (top / "script").chmod(0o755)
    (top / "hard").hardlink_to(top / "d1/1")
    (top / "d3/hard").hardlink_to(top / "d1/1")
    (top / "link").symlink_to("d1/1")
    (top / "dangling").symlink_to("no/where")
    (top / "empty").mkdir(0o700)
    os.mkfifo(top / "pipe", 0o640)
    os.setxattr(top / "script", "user.mine", b"value\0")
    date_all(top)


def date_all(top: pathlib.Path, time_ns: int = TIME) -> None:
    """Times of long ago, and unequal ones: rsync takes those within a second for the same."""
    for number, path in enumerate([*sorted(top.rglob("*"), reverse=True), top]):
        os.utime(path, ns=(time_ns, time_ns + number), follow_symlinks=False)


def same(one: pathlib.Path, other: pathlib.Path) -> None:
    assert described(one) == described(other)
    assert contents(one) == contents(other)


def test_a_second_rsync_moves_nothing(work: Work) -> None:
    need("rsync", "rsync")
    source = work.aside / "source"
    make_tree(source)

    def rsync(from_: pathlib.Path, to: pathlib.Path) -> str:
        return work.run("rsync", "-aHX", "--itemize-changes", f"{from_}/", f"{to}/")

    assert "script" in rsync(source, work.top / "copy")
    assert rsync(source, work.top / "copy") == ""
    same(source, work.top / "copy")
    with work.second() as second:
        assert rsync(source, second / "copy") == ""
    with work.finished() as top:
        assert rsync(source, top / "copy") == ""
        assert "script" in rsync(top / "copy", work.aside / "back")
    assert rsync(source, work.aside / "back") == ""
    same(source, work.aside / "back")


def test_rsync_updates_what_changed(work: Work) -> None:
    need("rsync", "rsync")
    source = work.aside / "source"
    make_tree(source)
    command = ("rsync", "-aHX", "--delete", "--inplace", "--no-whole-file", f"{source}/", f"{work.top}/copy/")
    work.run(*command)
    (source / "d1/49").write_bytes(b"x" * 300_000)
    (source / "d0/48").unlink()
    (source / "script").chmod(0o700)
    date_all(source, TIME + 10**9)
    work.run(*command)
    with work.finished() as top:
        same(source, top / "copy")


def test_cp_keeps_all(work: Work) -> None:
    source = work.aside / "source"
    make_tree(source)
    work.run("cp", "-a", source, work.top / "copy")
    work.run("cp", "-a", work.top / "copy", work.top / "again")
    same(source, work.top / "again")
    with work.finished() as top:
        same(source, top / "copy")
        same(source, top / "again")
        work.run("cp", "-a", top / "copy", work.aside / "back")
    same(source, work.aside / "back")


def test_tar_packs_and_unpacks(work: Work) -> None:
    need("tar", "tar")
    source, archive = work.aside / "source", work.aside / "x.tar"
    make_tree(source)
    options = ("--format=posix", "--xattrs", "--xattrs-include=user.*", "-C")
    work.run("tar", "-cf", archive, *options, source, ".")
    (work.top / "out").mkdir()
    work.run("tar", "-xpf", archive, *options, work.top / "out")
    same(source, work.top / "out")
    work.run("tar", "-cf", work.top / "inside.tar", *options, work.top / "out", ".")
    with work.finished() as top:
        same(source, top / "out")
        work.run("tar", "-df", top / "inside.tar", "-C", top / "out")
        (work.aside / "back").mkdir()
        work.run("tar", "-xpf", top / "inside.tar", *options, work.aside / "back")
    same(source, work.aside / "back")

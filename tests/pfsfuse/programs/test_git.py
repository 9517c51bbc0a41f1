"""git works in an open commit, and what it made is right in the finished one."""

from __future__ import annotations

import os
import pathlib

from tests.pfsfuse.programs.work import Work, contents, need
from tests.support.openwrites import described


def git(work: Work, where: pathlib.Path, *command: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "protocol.file.allow=always"]
    return work.run("git", "-C", where, *identity, *command)


def make_repository(work: Work, where: pathlib.Path) -> None:
    """One with two branches, scripts and links."""
    where.mkdir()
    git(work, where, "init", "-q", "-b", "main")
    for number in range(60):
        (where / f"d{number % 5}").mkdir(exist_ok=True)
        (where / f"d{number % 5}/{number}").write_text(f"{number}\n" * number)
    (where / "script").write_text("#!/bin/sh\necho ran\n")
    (where / "script").chmod(0o755)
    (where / "link").symlink_to("d1/1")
    git(work, where, "add", ".")
    git(work, where, "commit", "-qm", "first")
    git(work, where, "checkout", "-qb", "other")
    (where / "script").chmod(0o644)
    (where / "link").unlink()
    (where / "link").write_text("a file now")
    git(work, where, "rm", "-qr", "d2")
    git(work, where, "commit", "-qam", "second")


def test_clone_checkout_gc_and_worktrees(work: Work) -> None:
    need("git", "git")
    source, clone = work.top / "source", work.top / "clone"
    make_repository(work, source)
    git(work, work.top, "clone", "-q", "source", "clone")
    packed = [path for path in (clone / ".git/objects").rglob("*") if path.is_file()]
    assert packed
    assert {path.stat().st_nlink for path in packed} == {2}
    git(work, clone, "checkout", "-q", "main")
    assert work.run(clone / "script") == "ran\n"
    assert os.readlink(clone / "link") == "d1/1"
    git(work, clone, "checkout", "-q", "other")
    assert not os.access(clone / "script", os.X_OK) or os.stat(clone / "script").st_mode & 0o111 == 0
    assert (clone / "link").read_text() == "a file now"
    git(work, clone, "checkout", "-q", "main")
    git(work, clone, "worktree", "add", "-q", "../tree", "other")
    git(work, clone, "gc", "-q", "--aggressive", "--prune=now")
    for where in (source, clone, work.top / "tree"):
        git(work, where, "fsck", "--strict")
        assert git(work, where, "status", "--porcelain") == ""
    assert not (work.top / "tree/d2").exists()


def test_status_is_clean_over_other_mounts(work: Work) -> None:
    need("git", "git")
    make_repository(work, work.aside / "source")
    git(work, work.top, "clone", "-q", str(work.aside / "source"), "clone")
    clone = work.top / "clone"
    assert git(work, clone, "status", "--porcelain") == ""
    with work.second() as second:
        assert git(work, second / "clone", "status", "--porcelain") == ""
        (second / "clone/d1/1").write_text("changed")
        assert git(work, second / "clone", "status", "--porcelain") == " M d1/1\n"
        git(work, second / "clone", "commit", "-qam", "third")
    assert git(work, clone, "status", "--porcelain") == ""
    before, held = described(clone), contents(clone)
    with work.finished() as top:
        assert git(work, top / "clone", "status", "--porcelain") == ""
        git(work, top / "clone", "fsck", "--strict")
        assert described(top / "clone") == before
        assert contents(top / "clone") == held
        git(work, work.aside, "clone", "-q", str(top / "clone"), "back")
    assert (work.aside / "back/d1/1").read_text() == "changed"

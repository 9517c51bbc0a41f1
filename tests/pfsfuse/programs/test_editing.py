"""Editors save in an open commit; what watches a directory hears of it.

LibreOffice is too large to install here: what it does about locks is done by hand.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
import select
import struct
import subprocess

import pytest

from tests.pfsfuse.programs.work import Work, need
from tests.support.openwrites import fails_with

WAIT_SECONDS = 30
IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200


@pytest.mark.parametrize("how", ["backupcopy=no", "backupcopy=yes"])
def test_vim_saves(work: Work, how: str) -> None:
    need("vim", "vim")
    file = work.top / "text"
    file.write_text("one\ntwo\n" * 1000)
    file.chmod(0o750)
    script = ("-c", f"set backup writebackup backupskip= {how}", "-c", "%s/two/three/", "-c", "wq")
    work.run("vim", "-es", "-u", "NONE", "-N", *script, file)
    assert file.read_text() == "one\nthree\n" * 1000
    with work.finished() as top:
        assert (top / "text").read_text() == "one\nthree\n" * 1000
        assert (top / "text").stat().st_mode & 0o777 == 0o750
        assert (top / "text~").read_text() == "one\ntwo\n" * 1000
        assert sorted(path.name for path in top.iterdir()) == ["text", "text~"]


def test_emacs_saves(work: Work) -> None:
    need("emacs-nox", "emacs")
    file = work.top / "text"
    file.write_text("old\n")
    file.chmod(0o640)
    locked = '(princ (file-symlink-p ".#text"))'
    backup = "(setq backup-enable-predicate (lambda (_) t))"  # which leaves out what lies in /tmp otherwise
    lisp = f'(progn {backup} (find-file "text") (insert "new\\n") {locked} (save-buffer))'
    assert "@" in work.run("emacs", "--batch", "-Q", "--eval", lisp)
    with work.finished() as top:
        assert (top / "text").read_text() == "new\nold\n"
        assert (top / "text").stat().st_mode & 0o777 == 0o640
        assert (top / "text~").read_text() == "old\n"
        assert sorted(path.name for path in top.iterdir()) == ["text", "text~"]


def test_lock_files_like_those_of_libreoffice(work: Work) -> None:
    lock = work.top / ".~lock.x.odt#"

    def take() -> None:
        number = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        os.write(number, b",user,host,01.01.2026 00:00,file:///home/user;")
        os.close(number)

    take()
    fails_with(errno.EEXIST, take)
    assert lock.read_bytes().startswith(b",user,")
    (work.top / "new.odt").write_bytes(b"text" * 1000)
    (work.top / "new.odt").rename(work.top / "x.odt")
    lock.unlink()
    take()
    lock.unlink()
    with work.finished() as top:
        assert [path.name for path in top.iterdir()] == ["x.odt"]


class Watch:
    """What inotify tells of a directory."""

    def __init__(self, path: pathlib.Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.number = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.number >= 0
        kinds = IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE
        assert self._libc.inotify_add_watch(self.number, os.fsencode(path), kinds) >= 0

    def until(self, last: tuple[int, str]) -> list[tuple[int, str]]:
        """What happened, up to something."""
        events: list[tuple[int, str]] = []
        while last not in events:
            assert select.select([self.number], [], [], WAIT_SECONDS)[0], events
            told = os.read(self.number, 1 << 16)
            while told:
                _, mask, _, length = struct.unpack_from("iIII", told)
                events.append((mask, told[16 : 16 + length].rstrip(b"\0").decode()))
                told = told[16 + length :]
        return events


def test_inotify_tells_what_another_process_does(work: Work) -> None:
    watch = Watch(work.top)
    try:
        subprocess.run(["sh", "-c", "echo x > a; mv a b; rm b"], cwd=work.top, check=True, timeout=WAIT_SECONDS)
        events = watch.until((IN_DELETE, "b"))
    finally:
        os.close(watch.number)
    kinds = [IN_CREATE, IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_DELETE]
    assert events == list(zip(kinds, "aaaabb", strict=True))

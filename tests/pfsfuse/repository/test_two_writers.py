"""Two mounts and a client that change one open commit at once, each other files: nothing that was written is lost."""

from __future__ import annotations

import os
import pathlib
import random
import threading
import time

import pytest

from pachproto import pfs_pb2
from tests.support.daemons import Daemon
from tests.support.mounts import Mounted, mounting
from tests.support.openwrites import finish, stored

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

STEPS = 400
NAMES = ("a", "b", "c")


class Writer(threading.Thread):
    """Writes, lengthens, removes and renames a few files of a directory of its own, and knows what they hold."""

    def __init__(self, top: pathlib.Path, seed: int) -> None:
        super().__init__()
        self.top = top
        self.held: dict[str, bytes] = {}
        self.error: OSError | None = None
        self._rng = random.Random(seed)

    def run(self) -> None:
        try:
            for _ in range(STEPS):
                self._step()
        except OSError as error:
            self.error = error

    def _step(self) -> None:
        name, other = self._rng.choice(NAMES), self._rng.choice(NAMES)
        path, held = self.top / name, self.held.get(name)
        match self._rng.randrange(6):
            case 0 | 1:
                path.write_bytes(data := self._rng.randbytes(self._rng.choice((1, 3000, 70_000))))
                self.held[name] = data
            case 2 if held is not None:
                with path.open("ab") as file:
                    file.write(b"more")
                self.held[name] = held + b"more"
            case 3 if held is not None:
                os.truncate(path, 2000)
                self.held[name] = held[:2000].ljust(2000, b"\0")
            case 4 if held is not None:
                path.unlink()
                del self.held[name]
            case 5 if held is not None and name != other:
                path.rename(self.top / other)
                self.held[other] = self.held.pop(name)


Shown = dict[str, tuple[int, bytes]]


def shown(top: pathlib.Path) -> Shown:
    """The files of a directory, each with its number of names and its content."""
    return {path.name: (path.stat().st_nlink, path.read_bytes()) for path in top.iterdir()}


def test_names_that_others_give_to_another_file_are_that_ones(
    daemon: Daemon, mounted: Mounted, tmp_path: pathlib.Path
) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    with mounting(daemon, tmp_path / "second") as second:
        one, two = (each.path / "r/master/d" for each in (mounted, second))

        def both_show(expected: Shown) -> None:
            until = time.monotonic() + 30
            while [shown(top) for top in (one, two)] != [expected, expected]:
                assert time.monotonic() < until, [shown(top) for top in (one, two)]
                time.sleep(0.05)

        one.mkdir()
        (one / "a").write_bytes(b"first")
        for name in "bcde":
            (one / name).hardlink_to(one / "a")
        both_show(dict.fromkeys("abcde", (5, b"first")))
        daemon.put(at, "/d/b", b"put", overwrite=True)
        daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=at, path="/d/c")))
        both_show({"b": (1, b"put"), **dict.fromkeys("ade", (3, b"first"))})
        (two / "d").unlink()
        (two / "new").write_bytes(b"new")
        (two / "new").rename(two / "e")
        (two / "f").hardlink_to(two / "e")
        both_show({"a": (1, b"first"), "b": (1, b"put"), **dict.fromkeys("ef", (2, b"new"))})
        with (one / "e").open("ab") as file:
            file.write(b" and more")
        (one / "g").hardlink_to(one / "b")
        last = {"a": (1, b"first"), **dict.fromkeys("bg", (2, b"put")), **dict.fromkeys("ef", (2, b"new and more"))}
        both_show(last)
        assert len({path.stat().st_ino for path in two.iterdir()}) == 3
        finish(one.parent)
        both_show(last)
        assert stored(daemon) == {f"/d/{name}": data for name, (_, data) in last.items()}


@pytest.mark.parametrize("seed", range(3))
def test_what_two_mounts_write_at_once_is_all_there(
    daemon: Daemon, mounted: Mounted, tmp_path: pathlib.Path, seed: int
) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    with mounting(daemon, tmp_path / "second") as second:
        tops = [mounted.path / "r/master/0", second.path / "r/master/1"]
        for top in tops:
            top.mkdir()
        writers = [Writer(top, 10 * seed + number) for number, top in enumerate(tops)]
        for writer in writers:
            writer.start()
        until = time.monotonic() + 120
        while any(writer.is_alive() for writer in writers):
            assert time.monotonic() < until
            daemon.put(at, "/elsewhere", b"x", overwrite=True)  # has both mounts look at the commit again
        assert [writer.error for writer in writers] == [None, None]
        finish(mounted.path / "r/master")
    expected = {"/elsewhere": b"x"} | {
        f"/{writer.top.name}/{name}": data for writer in writers for name, data in writer.held.items()
    }
    assert stored(daemon) == expected

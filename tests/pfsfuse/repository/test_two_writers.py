"""Two mounts and a client that change one open commit at once, each other files: nothing that was written is lost."""

from __future__ import annotations

import os
import pathlib
import random
import threading
import time

import pytest

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

"""What requests are answered from without Python, by the thread that takes them (`csrc/answers/ready.c`).

Where that thread is not there, nothing is noted, and every request comes to the view.
"""

from __future__ import annotations

import importlib
import logging
import weakref
from collections.abc import Sequence
from typing import Any

from pfsd.trees.attributes import DIRECTORY_MODE, FILE_MODE, SYMLINK_MODE
from pfsd.trees.tree import Pair
from pfsfuse.content.packfiles import PackFile

log = logging.getLogger(__name__)

_MODES = FILE_MODE, DIRECTORY_MODE, SYMLINK_MODE
TREE_LISTING = 1 << 63
"""Handles of directories of immutable trees have this bit; the rest is the directory's number."""


class Ready:
    """Notes what never changes as long as the kernel knows it, of one mount."""

    def __init__(self) -> None:
        try:
            self._answers: Any = importlib.import_module("pfsfuse._answers")
        except ImportError as error:
            log.debug("every request is answered in Python: %s", error)
            self._answers = None
        self._packs: weakref.WeakKeyDictionary[PackFile, int] = weakref.WeakKeyDictionary()

    def claims(self, ino: int) -> bool:
        """Nobody but the caller gives the kernel the bytes of a file; False where it may have been opened meanwhile."""
        return self._answers is None or bool(self._answers.claims(ino))

    def opens(self, ino: int) -> None:
        """Opening a file for reading only, and closing it again, needs nobody to know."""
        if self._answers is not None:
            self._answers.opens(ino)

    def offers(self, ino: int, data: bytes) -> None:
        """The same of a small file that no program has opened: the kernel is to get all of it just before."""
        if self._answers is not None:
            self._answers.offers(ino, data)

    def list(
        self,
        pairs: Sequence[Pair],
        first: int,
        numbers: Sequence[int],
        offset: int,
        time_ns: int,
        owners: tuple[int, int, bool],
    ) -> bytes | None:
        """What the kernel is answered that lists entries, one for each number; None where one of them is not plain.

        `owners` are the user and the group that they show, and whether they show those that are kept instead.
        """
        if self._answers is None:
            return None
        answer: bytes | None = self._answers.list(pairs, first, numbers, offset, time_ns, *owners, _MODES)
        return answer

    def lists(self, ino: int) -> None:
        """The kernel has been given all entries of a directory, and still knows them."""
        if self._answers is not None:
            self._answers.lists(ino)

    def lists_no_more(self, ino: int) -> None:
        """A directory is read again: the view has to hear when it is closed."""
        self.drop(0, ino)

    def holds(self, ino: int, file_size: int, start: int, size: int, pack: PackFile, offset: int) -> None:
        """`size` bytes of a file from `start` on lie at an offset of a pack, where they were verified."""
        if self._answers is None:
            return
        number = self._packs.get(pack)
        if number is None:
            number = self._packs[pack] = self._answers.take_pack(pack.fd)
            weakref.finalize(pack, self._answers.drop_pack, number).atexit = False
        if number > 0:
            self._answers.holds(ino, file_size, start, size, number, offset)

    def drop(self, ino: int, parent: int) -> None:
        """The kernel has forgotten a file or directory of the directory `parent`."""
        if self._answers is not None:
            self._answers.drop(ino, parent)

"""The root that the tests of `fsck` damage."""

from __future__ import annotations

import pathlib
import random

import pytest

from pfsd.filesystem.store import Store
from tests.support.faulty.damagedstores import SIZES, Sample, empty_journal, finished


@pytest.fixture
def sample(tmp_path: pathlib.Path) -> Sample:
    """The first commit's chunks are in a sealed pack, the others' in the spool."""
    chosen = random.Random(7)
    files = {path: chosen.randbytes(size) for path, size in SIZES.items()}
    store = Store(tmp_path / "root")
    store.repos.create("in")
    store.repos.create("out", ["in"])
    first = finished(store, "in", files)
    store.root.chunks.seal_if(lambda _pack, _size: True)
    second = finished(store, "in", {"other": chosen.randbytes(600_000), "late": b"l" * 50_000})
    derived = finished(store, "out", {"x": chosen.randbytes(10_000), "copied": files["d/small"]}, second)
    store.close()
    sample = Sample(tmp_path / "root", files, first, second, derived)
    sample.edit(empty_journal)
    return sample

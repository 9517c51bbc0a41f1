"""Files that are none of ours, in the spool, among the objects and in the cache: they stay, and stop nothing."""

from __future__ import annotations

import os
import pathlib
import random
import socket

import pytest

from pfsd.clouds import s3
from pfsd.filesystem.store import Store
from pfsd.local.packs import sealed_name
from pfsd.model.root import FORMAT, Identity, write_identity
from pfsd.objectstores.objectstore import LocalObjectStore
from pfsd.upkeep import fsck
from pfsd.upkeep.checks.findings import Problem
from pfsd.upkeep.collect import collect_garbage
from pfsd.upkeep.relocate import LOCAL, move_packs
from tests.support.servers.s3servers import S3Server
from tests.support.stores import put

BODY = random.Random(1).randbytes(1 << 20)
HEX = "0123456789abcdef" * 2


def strew(place: pathlib.Path) -> dict[str, os.stat_result]:
    """Leave one of each kind in a directory, under names like a pack's and others."""
    place.mkdir(parents=True, exist_ok=True)
    ours = set(place.iterdir())
    (place / "notes.txt").write_bytes(b"mine")
    (place / HEX.upper()).write_bytes(b"mine")
    (place / f"{HEX}.bak").write_bytes(b"mine")
    (place / ("1" + HEX[1:])).mkdir()
    (place / ("1" + HEX[1:]) / "inner").write_bytes(b"mine")
    (place / ("2" + HEX[1:])).symlink_to("/etc/passwd")
    os.mkfifo(place / ("3" + HEX[1:]))
    with socket.socket(socket.AF_UNIX) as made:
        here = pathlib.Path.cwd()
        os.chdir(place)  # a socket's address has 107 bytes at most
        try:
            made.bind("4" + HEX[1:])
        finally:
            os.chdir(here)
    return {path.name: path.lstat() for path in place.iterdir() if path not in ours}


def unchanged(place: pathlib.Path, before: dict[str, os.stat_result]) -> bool:
    return all((place / name).lstat().st_ino == status.st_ino for name, status in before.items())


def filled(store: Store) -> None:
    store.repos.create("r")
    at = store.commits.start("r", branch="master")
    put(store, at, "a", BODY)
    store.commits.finish("r", at.id)
    store.root.chunks.seal_if(lambda pack, size: True)
    at = store.commits.start("r", branch="master")
    put(store, at, "b", b"in the spool" * 20_000)
    store.commits.finish("r", at.id)


def read(store: Store) -> bytes:
    return b"".join(store.files.read(store.commits.resolve("r", "master"), "a", 0, 0))


def test_strange_files_stay_and_stop_neither_start_nor_check_nor_collection(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    store = Store(root)
    filled(store)
    store.close()
    places = [root / "spool", root / "objects", root / "objects" / "packs", root / "objects" / "packs" / "01"]
    before = [strew(place) for place in places]
    caplog.clear()
    store = Store(root)
    for place in places:
        for name in ("notes.txt", f"{HEX}.bak", "3" + HEX[1:]):
            assert f"{(place / name).relative_to(root)}".removeprefix("objects/") in caplog.text
    assert read(store) == BODY
    assert store.root.chunks.seal_if(lambda pack, size: True)
    junk = store.commits.start("r", branch="junk")
    put(store, junk, "junk", random.Random(2).randbytes(3 << 20))
    store.commits.delete("r", junk.id)
    assert collect_garbage(store.root).chunks_removed
    assert [found for found in fsck.check(store, fix=True) if isinstance(found, Problem)] == []
    store.close()
    assert [found for found in fsck.check_root(root, True) if isinstance(found, Problem)] == []
    assert all(unchanged(place, names) for place, names in zip(places, before, strict=True))
    store = Store(root)
    assert read(store) == BODY
    store.close()


def test_strange_files_do_not_make_a_new_root_look_like_one_that_lost_its_metadata(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_identity(root, Identity(FORMAT, "ab" * 16))  # and a crash before the metadata were there
    before = strew(root / "spool")
    store = Store(root)
    filled(store)
    assert read(store) == BODY
    store.close()
    assert unchanged(root / "spool", before)


def test_packs_move_and_strange_files_stay(
    tmp_path: pathlib.Path, moto: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    s3.client.cache_clear()
    root = tmp_path / "root"
    store = Store(root)
    filled(store)
    store.close()
    places = [root / "objects", root / "objects" / "packs", root / "objects" / "packs" / "01"]
    before = [strew(place) for place in places]
    assert move_packs(root, "s3://data/strays") == 1
    store = Store(root)
    assert read(store) == BODY
    store.close()
    assert all(unchanged(place, names) for place, names in zip(places, before, strict=True))
    assert move_packs(root, LOCAL) >= 1
    store = Store(root)
    assert read(store) == BODY
    store.close()
    assert all(unchanged(place, names) for place, names in zip(places, before, strict=True))
    s3.client.cache_clear()


def test_a_file_where_a_directory_of_packs_belongs_stops_nothing_else(tmp_path: pathlib.Path) -> None:
    store = LocalObjectStore(tmp_path / "objects")
    (tmp_path / "objects" / "packs" / "ab").write_bytes(b"mine")
    source = tmp_path / "source"
    source.write_bytes(b"pack")
    store.put_file(f"packs/cd/cd{HEX[2:]}", source)
    assert [sealed_name(name) for name in store.names("packs")] == [None, "cd" + HEX[2:]]
    store.close()

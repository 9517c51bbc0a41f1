"""Edits of an open commit: directories, removals, renames."""

from __future__ import annotations

import itertools
import pathlib
from typing import Any

import grpc
import pytest

from pachproto import edits_pb2, pfsd_pb2
from pfsd import rpc
from pfsd.errors import DiskError
from pfsd.filesystem.edits import Edits, MakeDirectory, Remove, Rename, SetAttributes, Step
from pfsd.filesystem.store import Store
from pfsd.local.kv import Batch
from pfsd.model.records import Commit
from pfsd.trees import entries
from tests.support.attributes import encoded
from tests.support.daemons import Daemon, commit
from tests.support.stores import contents, put


class Editor:
    """Edits one open commit of a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.stub = rpc.Stub(daemon.channel, edits_pb2.DESCRIPTOR.services_by_name["Edits"])
        daemon.create_repo("r")
        daemon.commit_files("r", {"d/a": b"a", "d/b": b"b", "top": b"t", "deep/1/2/3": b"x"})
        self.at = daemon.start_commit("r")

    def __call__(self, *steps: dict[str, Any]) -> None:
        self.stub.Edit(edits_pb2.EditRequest(commit=self.at, steps=[edits_pb2.EditStep(**step) for step in steps]))

    def refused(self, *steps: dict[str, Any]) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            self(*steps)
        assert caught.value.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        return caught.value.details() or ""

    def list(self, path: str = "") -> list[str]:
        return self.daemon.list(self.at, path)


@pytest.fixture
def edit(daemon: Daemon) -> Editor:
    return Editor(daemon)


def rename(source: str, target: str, **more: bool) -> dict[str, Any]:
    return {"rename": {"from": source, "to": target, **more}}


def test_files_and_directories_move_with_all_below_them(edit: Editor) -> None:
    edit(rename("top", "d/top"), rename("deep", "d/deeper"))
    assert edit.list() == ["d"]
    assert edit.daemon.get(edit.at, "d/deeper/1/2/3") == b"x"
    edit(rename("d", "e"))
    edit.daemon.finish_commit(edit.at)
    head = commit("r", "master")
    assert edit.daemon.get(head, "e/top") == b"t"
    assert edit.daemon.list(head, "e") == ["e/a", "e/b", "e/deeper", "e/top"]


def test_a_rename_replaces_as_rename_does(edit: Editor) -> None:
    edit(rename("d/a", "d/b"))
    assert edit.list("d") == ["d/b"]
    assert edit.daemon.get(edit.at, "d/b") == b"a"
    edit({"make_directory": "empty"}, rename("d", "empty"))
    assert edit.list("empty") == ["empty/b"]
    assert "is not empty" in edit.refused(rename("deep", "empty"))
    assert "is a directory" in edit.refused(rename("top", "empty"))
    assert "is not a directory" in edit.refused(rename("empty", "top"))
    assert "already exists" in edit.refused(rename("top", "empty/b", no_replace=True))
    assert "below itself" in edit.refused(rename("deep", "deep/1/x"))
    assert "/nope not found" in edit.refused(rename("nope", "x"))
    assert "/no not found" in edit.refused(rename("top", "no/x"))
    edit(rename("top", "top"))
    assert edit.daemon.get(edit.at, "top") == b"t"


def test_directories_are_made_and_removed_as_mkdir_and_rmdir_do(edit: Editor) -> None:
    edit({"make_directory": "new"}, {"make_directory": "new/below"})
    assert "already exists" in edit.refused({"make_directory": "new"})
    assert "/x not found" in edit.refused({"make_directory": "x/y"})
    assert "is not a directory" in edit.refused({"make_directory": "top/y"})
    assert "is not empty" in edit.refused({"remove": {"path": "new", "empty_directory": True}})
    for path in ("new/below", "new"):
        edit({"remove": {"path": path, "empty_directory": True}})
    assert "is not a directory" in edit.refused({"remove": {"path": "top", "empty_directory": True}})
    assert "is a directory" in edit.refused({"remove": {"path": "d", "file": True}})
    edit({"remove": {"path": "top", "file": True}}, {"remove": {"path": "deep"}})
    assert edit.list() == ["d"]


def test_all_steps_are_taken_or_none(edit: Editor) -> None:
    edit.refused({"make_directory": "one"}, rename("top", "one/top"), {"make_directory": "d"})
    assert edit.list() == ["d", "deep", "top"]
    assert edit.daemon.get(edit.at, "top") == b"t"


def test_existing_content_takes_the_place_of_a_file(edit: Editor) -> None:
    (batch,) = edit.daemon.store.GlobEntries(pfsd_pb2.GlobRequest(commit=edit.at, pattern="/d/b"))
    edit({"replace": {"path": "top", "entry": batch.entries[0].entry}})
    assert edit.daemon.get(edit.at, "top") == b"b"
    assert "directory's entry" in edit.refused({"replace": {"path": "x", "entry": entries.encode(entries.EMPTY_DIR)}})


def test_a_finished_commit_is_not_edited(edit: Editor) -> None:
    edit.daemon.finish_commit(edit.at)
    assert "is finished" in edit.refused({"make_directory": "new"})


def test_directories_are_made_with_those_above_them_as_mkdir_p_does(edit: Editor) -> None:
    edit({"make_directories": "new/one/two"}, {"make_directories": "new/one"}, {"make_directories": "d"})
    assert edit.list("new") == ["new/one"]
    assert edit.list("d") == ["d/a", "d/b"]
    assert "is a file" in edit.refused({"make_directories": "top"})
    assert "is a file" in edit.refused({"make_directories": "d/a/b"})
    assert "names no file" in edit.refused({"make_directories": "/"})


def test_an_edit_that_is_refused_leaves_nothing_that_a_later_write_would_build_on(edit: Editor) -> None:
    refused = {"remove": {"path": "none"}}
    for step in ({"make_directories": "deep/1/new"}, {"make_directory": "d/new"}, rename("top", "deep/1/2/top")):
        edit.refused(step, refused)
        edit.daemon.put(edit.at, "deep/1/2/more", b"more", overwrite=True)
        edit.daemon.put(edit.at, "d/more", b"more", overwrite=True)
        assert edit.list("deep/1/2") == ["deep/1/2/3", "deep/1/2/more"]
        assert edit.list("d") == ["d/a", "d/b", "d/more"]
    edit.daemon.finish_commit(edit.at)
    assert edit.daemon.get(commit("r", "master"), "deep/1/2/more") == b"more"


PARENTS = MakeDirectory(("new", "below"), parents=True)
EDITS = {
    "exchange": [Rename(("d",), ("x",)), Rename(("top",), ("d",)), Rename(("x",), ("top",))],
    "rename-later": [PARENTS, Remove(("d", "a")), Rename(("top",), ("new", "top")), Rename(("d",), ("new", "d"))],
    "attributes": [PARENTS, SetAttributes((), encoded(mode=0o700)), SetAttributes(("d",), encoded(mode=0o700))],
    "no-rename": [PARENTS, Remove(("d",)), SetAttributes(("top",), encoded(mode=0o755))],
}


Shown = tuple[dict[str, bytes], set[str], str, bytes]


class Dying:
    """A store whose database writes nothing more after some writes."""

    def __init__(self, store: Store, writes: int) -> None:
        self._left = writes
        self._write = store.root.db.write

    def __call__(self, batch: Batch, *, sync: bool = False) -> None:
        if not self._left:
            raise DiskError("nothing is written any more")
        self._left -= 1
        self._write(batch, sync=sync)


def edited(root: pathlib.Path, steps: list[Step], writes: int) -> tuple[Shown, Shown, bool]:
    """What a commit holds before and after an edit that is cut off after some writes, and whether it was not."""
    is_done = False
    store = Store(root)
    store.repos.create("r")
    at = store.commits.start("r")
    for path in ("d/a", "d/b", "top"):
        put(store, at, path, path.encode())
    before = shown(store, at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.root.db, "write", Dying(store, writes))
        try:
            Edits(store.root, store.commits).apply(at, steps)
            is_done = True
        except DiskError:
            pass
    store.close()
    store = Store(root)
    after = shown(store, at)
    store.close()
    return before, after, is_done


def shown(store: Store, at: Commit) -> Shown:
    """The files and directories of a commit, and the attributes of its root and of all."""
    present = store.commits.resolve("r", at.id)
    return (*contents(store, at), present.attributes, store.commits.tree(present).root)


@pytest.mark.parametrize("steps", EDITS.values(), ids=EDITS)
def test_a_crash_at_any_write_leaves_all_of_an_edit_or_nothing(tmp_path: pathlib.Path, steps: list[Step]) -> None:
    *_, expected, is_done = edited(tmp_path / "whole", steps, 1000)
    assert is_done
    for writes in itertools.count():
        before, after, is_done = edited(tmp_path / str(writes), steps, writes)
        assert before != expected
        assert after == expected if is_done else after in (before, expected)
        if is_done:
            break

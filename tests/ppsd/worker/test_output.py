"""What a datum left in /pfs/out becomes the writes of a tree, or an error that names the file."""

from __future__ import annotations

import os
import pathlib
import socket
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pytest

from pachproto import ppsd_pb2
from pfsd.errors import InvalidError
from pfsd.trees import attributes, entries, tree
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import Chunk, DirEntry, Entry, FileEntry, SymlinkEntry
from ppsd.worker import keeping
from ppsd.worker.compute import complaint, empty_directory, environment, stdin_of
from ppsd.worker.output import MESSAGE_BYTES, requests
from ppsd.worker.runner import Finished
from tests.support.places import let_others_in

FILE = FileEntry(3, (Chunk(b"c" * 32, 3),), None, 1)
DIRECTORY = DirEntry(tree.EMPTY, 3, 1, 0)
INPUTS: dict[str, Entry] = {"/pfs/in/a": FILE, "/pfs/in/dir": DIRECTORY}


class Stored:
    """What the messages of an output amount to."""

    def __init__(self, scratch: pathlib.Path, inputs: Mapping[str, Entry] = INPUTS, lazy: Sequence[str] = ()) -> None:
        self.files: dict[str, bytes] = defaultdict(bytes)
        self.entries: dict[str, Entry] = {}
        self.directories: list[str] = []
        self.kept: dict[str, Attributes] = {}
        self.zeros = 0
        self.messages = list(requests("a tag", str(scratch), inputs.get, lazy=lazy))
        for write in (write for message in self.messages for write in message.writes):
            if write.WhichOneof("what") == "data":
                self.files[write.path] += write.data
            elif write.WhichOneof("what") == "zeros":
                self.files[write.path] += bytes(write.zeros)
                self.zeros += write.zeros
            elif write.WhichOneof("what") == "entry":
                self.entries[write.path] = entries.decode(write.entry)
            else:
                self.directories.append(write.path)
            if write.HasField("attributes"):
                self.kept[write.path] = attributes.decode(write.attributes)

    @property
    def links(self) -> dict[str, bytes]:
        """The targets of the symbolic links."""
        return {path: entry.target for path, entry in self.entries.items() if isinstance(entry, SymlinkEntry)}


def test_files_and_directories_are_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub/empty").mkdir(parents=True)
    (tmp_path / "sub/file").write_bytes(b"data")
    (tmp_path / "nothing").touch()
    stored = Stored(tmp_path)
    assert stored.files == {"/nothing": b"", "/sub/file": b"data"}
    assert stored.directories == ["/sub", "/sub/empty"]


def test_what_is_locked_against_its_owner_is_stored(tmp_path: pathlib.Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "shut/inner").mkdir(parents=True)
    (scratch / "shut/inner/file").write_bytes(b"in")
    (scratch / "file").write_bytes(b"data")
    for path in ("shut/inner/file", "shut/inner", "shut", "file"):
        (scratch / path).chmod(0)
    assert Stored(scratch).files == {"/file": b"data", "/shut/inner/file": b"in"}
    if os.geteuid() == 0:  # and as another user, who has no right but the owner's
        for path in ("", "file", "shut", "shut/inner", "shut/inner/file"):
            (scratch / path).chmod(0o500 if not path else 0)
            os.chown(scratch / path, 65534, 65534)
        let_others_in(tmp_path)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                os.write(writing, repr(sorted(Stored(scratch).files.items())).encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with open(reading) as answer:
            assert answer.read() == "[('/file', b'data'), ('/shut/inner/file', b'in')]"


def test_no_output_is_a_tree_too(tmp_path: pathlib.Path) -> None:
    [message] = Stored(tmp_path).messages
    assert message.tag == "a tag"


def test_large_files_come_in_pieces_and_small_ones_together(tmp_path: pathlib.Path) -> None:
    large = os.urandom(3 * MESSAGE_BYTES + 5)
    (tmp_path / "large").write_bytes(large)
    for number in range(2000):
        (tmp_path / f"small{number}").write_bytes(b"x" * 100)
    stored = Stored(tmp_path)
    assert stored.files["/large"] == large
    assert len(stored.files) == 2001
    assert len(stored.messages) < 10
    assert all(message.ByteSize() < 3 * MESSAGE_BYTES for message in stored.messages)
    assert [message.tag for message in stored.messages] == ["a tag"] + [""] * (len(stored.messages) - 1)


def test_holes_are_not_sent(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for offset in (5 << 20, 9 << 20):
            file.seek(offset)
            file.write(b"data")
        file.truncate(20 << 20)
    with (tmp_path / "empty").open("wb") as file:
        file.truncate(3 << 20)
    stored = Stored(tmp_path)
    assert stored.files == {path: (tmp_path / path[1:]).read_bytes() for path in ("/sparse", "/empty")}
    assert stored.zeros > 22 << 20
    assert sum(message.ByteSize() for message in stored.messages) < 1 << 20


def test_names_of_one_file_are_stored_as_one(tmp_path: pathlib.Path) -> None:
    def linked(scratch: pathlib.Path) -> dict[str, bytes]:
        (scratch / "a").mkdir(parents=True)
        (scratch / "two").write_bytes(b"data")
        (scratch / "a/one").hardlink_to(scratch / "two")
        (scratch / "other").write_bytes(b"data")
        (scratch / "more").hardlink_to(scratch / "other")
        (scratch / "alone").write_bytes(b"data")
        stored = Stored(scratch)
        assert set(stored.files.values()) == {b"data"}
        return {path: kept.link for path, kept in stored.kept.items()}

    links = linked(tmp_path / "first")
    assert links["/a/one"] == links["/two"] != links["/other"] == links["/more"]
    assert {len(link) for path, link in links.items() if path not in ("/a", "/alone")} == {8}
    assert links["/a"] == links["/alone"] == b""
    assert linked(tmp_path / "again") == links


def test_links_into_inputs_become_what_they_point_at(tmp_path: pathlib.Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "file").symlink_to("/pfs/in/a")
    (tmp_path / "deep/dir").symlink_to("../../in/./dir")
    (tmp_path / "deep/chain").symlink_to("../file")
    (tmp_path / "back").symlink_to("/pfs/in/dir/../../out/file")
    stored = Stored(tmp_path)
    assert stored.entries == {"/file": FILE, "/deep/dir": DIRECTORY, "/deep/chain": FILE, "/back": FILE}
    assert stored.files == {}


def test_other_links_are_followed(tmp_path: pathlib.Path) -> None:
    scratch, elsewhere = tmp_path / "scratch", tmp_path / "elsewhere"
    (scratch / "dir").mkdir(parents=True)
    (elsewhere / "sub").mkdir(parents=True)
    (elsewhere / "sub/x").write_bytes(b"x")
    (elsewhere / "y").symlink_to("sub/x")
    (scratch / "dir/file").write_bytes(b"mine")
    (scratch / "host").symlink_to(elsewhere)
    (scratch / "around").symlink_to("../out/dir/file")
    (scratch / "through").symlink_to("host/y")
    stored = Stored(scratch)
    assert stored.files == {
        "/around": b"mine",
        "/dir/file": b"mine",
        "/host/sub/x": b"x",
        "/host/y": b"x",
        "/through": b"x",
    }
    assert stored.entries == {}


def test_links_within_the_output_stay_links(tmp_path: pathlib.Path) -> None:
    (tmp_path / "dir/sub").mkdir(parents=True)
    (tmp_path / "dir/file").write_bytes(b"mine")
    targets: dict[str, str | bytes] = {
        "dir/beside": "file",
        "relative": "dir/../dir/./file",
        "chain": "dir/beside",
        "up": ".",
        "dir/sub/top": "../..",
        "dangling": "not/there",
        "dir/sub/dangling": "../../not/../file",
        "bytes": b"caf\xe9",
    }
    for path, target in targets.items():
        os.symlink(os.fsencode(target), os.fsencode(tmp_path / path))
    absolute = {
        "dir/sub/own": ("/pfs/out/dir/file", b"../file"),
        "dir/sub/all": ("//pfs/./out/", b"../.."),
        "here": ("/pfs/out", b"."),
        "dir/dots": ("/pfs/out/dir/sub/../file", b"../dir/sub/../file"),
    }
    for path, (target, _) in absolute.items():
        (tmp_path / path).symlink_to(target)
    stored = Stored(tmp_path)
    assert stored.files == {"/dir/file": b"mine"}
    assert stored.links == {
        **{f"/{path}": os.fsencode(target) for path, target in targets.items()},
        **{f"/{path}": target for path, (_, target) in absolute.items()},
    }


def test_links_to_links_of_an_input_lead_where_those_lead(tmp_path: pathlib.Path) -> None:
    inputs = {**INPUTS, "/pfs/in/link": SymlinkEntry(b"dir/../a"), "/pfs/in/dirs": SymlinkEntry(b"dir")}
    inputs["/pfs/in/dir/b"] = file("b")
    (tmp_path / "one").symlink_to("/pfs/in/link")
    (tmp_path / "two").symlink_to("/pfs/in/dirs/b")
    assert Stored(tmp_path, inputs).entries == {"/one": FILE, "/two": file("b")}


def test_files_keep_what_they_are(tmp_path: pathlib.Path) -> None:
    (tmp_path / "dir").mkdir(mode=0o755)
    (tmp_path / "tool").write_bytes(b"#!/bin/sh")
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to("tool")
    (tmp_path / "tool").chmod(0o4750)
    (tmp_path / "plain").chmod(0o644)
    (tmp_path / "dir").chmod(0o1777)
    for path in ("dir", "tool", "plain", "link"):
        os.utime(tmp_path / path, ns=(1, 1_234_567_890_123_456_789), follow_symlinks=False)
    time_ns = 1_234_567_890_123_456_789
    stored = Stored(tmp_path)
    assert stored.kept == {
        "/dir": Attributes(0o1777, time_ns=time_ns),
        "/plain": Attributes(time_ns=time_ns),
        "/tool": Attributes(0o4750, time_ns=time_ns),
    }
    assert entries.attributes_of(stored.entries["/link"]) == Attributes(time_ns=time_ns)


def test_all_pieces_of_a_file_tell_the_same(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "large").open("wb") as written:
        written.truncate(2 << 20)
        written.write(b"x" * (3 << 20))
    stored = Stored(tmp_path)
    told = {write.attributes for message in stored.messages for write in message.writes}
    assert len(told) == 1


def test_a_file_of_another_user_keeps_its_owner(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    found = (tmp_path / "file").stat()
    [[write]] = [message.writes for message in requests("a tag", str(tmp_path), INPUTS.get, user=found.st_uid + 1)]
    assert attributes.decode(write.attributes).owner == (found.st_uid, found.st_gid)
    assert Stored(tmp_path).kept["/file"].owner is None


def test_extended_attributes_of_users_are_kept_and_too_many_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    try:
        os.setxattr(tmp_path / "file", "user.pfs.hash", b"a mount's")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    os.setxattr(tmp_path / "file", "user.b", b"2")
    os.setxattr(tmp_path / "file", "user.a", b"")
    assert Stored(tmp_path).kept["/file"].xattrs == ((b"user.a", b""), (b"user.b", b"2"))
    found = (tmp_path / "file").lstat()
    sizes = {"user.a": 2000, "user.b": 2000, "user.c": 90}

    def read(path: object, name: bytes) -> bytes:
        return bytes(sizes[name.decode()])

    with pytest.MonkeyPatch.context() as patch:  # few disks keep that much
        patch.setattr(os, "listxattr", lambda path: list(sizes))
        patch.setattr(os, "getxattr", read)
        with pytest.raises(InvalidError, match="/pfs/out/file has 4108 bytes of extended attributes"):
            keeping.kept(str(tmp_path / "file"), found, 0, "/pfs/out/file")


def test_names_that_are_not_utf_8_are_mapped(tmp_path: pathlib.Path) -> None:
    pathlib.Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9")).touch()
    assert Stored(tmp_path).files == {"/latin-\uf7e9": b""}


def test_what_can_not_be_stored_is_named(tmp_path: pathlib.Path) -> None:
    def refused(name: str | bytes, complaint: str) -> None:
        with pytest.raises(InvalidError) as error:
            Stored(tmp_path)
        assert complaint in str(error.value)
        assert "/pfs/out" in str(error.value)
        os.unlink(os.path.join(os.fsencode(tmp_path), os.fsencode(name)))

    os.mkfifo(tmp_path / "pipe")
    refused("pipe", "/pfs/out/pipe is a named pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "sock"))
    refused("sock", "/pfs/out/sock is a socket")
    (tmp_path / "null").symlink_to("/dev/null")
    refused("null", "/pfs/out/null is a device")
    (tmp_path / "dangling").symlink_to("/pfs/out/not/there")
    refused("dangling", "/pfs/out/dangling is a symlink that can't be followed: /pfs/out/not")
    (tmp_path / "out").symlink_to("../not/there")
    refused("out", "/pfs/out/out can't be stored")
    (tmp_path / "gone").symlink_to("/pfs/in/gone")
    refused("gone", "/pfs/out/gone can't be stored")
    (tmp_path / "circle").symlink_to("circle")
    refused("circle", "/pfs/out/circle is a symlink that leads in a circle")
    (tmp_path.parent / "back").symlink_to(tmp_path)
    (tmp_path / "up").symlink_to(tmp_path.parent / "back")
    refused("up", "/pfs/out/up is a symlink to a directory that holds it")
    assert Stored(tmp_path).files == {}


def test_the_scratch_directory_is_emptied_whatever_was_done_to_it(tmp_path: pathlib.Path) -> None:
    inode = tmp_path.stat().st_ino
    (tmp_path / "locked/inner").mkdir(parents=True)
    (tmp_path / "locked/inner/file").touch()
    (tmp_path / "locked/inner").chmod(0)
    (tmp_path / "locked").chmod(0)
    (tmp_path / "link").symlink_to("/")
    tmp_path.chmod(0o500)
    empty_directory(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.stat().st_ino == inode


def test_the_environment_names_job_commit_and_inputs() -> None:
    assignment = ppsd_pb2.Assignment(job_id="j")
    assignment.output_commit.id = "o"
    assignment.transform.env["PACH_JOB_ID"] = "not this"
    for name, path in (("a", "/x/\uf7e9"), ("b", "/")):
        added = assignment.inputs.add(name=name, path=path)
        added.commit.id = f"commit-{name}"
    assert environment(assignment) == {
        "PACH_JOB_ID": "j",
        "PACH_OUTPUT_COMMIT_ID": "o",
        "a": "/pfs/a/x/\udce9",
        "a_COMMIT": "commit-a",
        "b": "/pfs/b",
        "b_COMMIT": "commit-b",
    }


def test_standard_input_is_its_lines_each_ended() -> None:
    assignment = ppsd_pb2.Assignment()
    assert stdin_of(assignment.transform) == b""
    assignment.transform.stdin.extend(["a", "", "b"])
    assert stdin_of(assignment.transform) == b"a\n\nb\n"


def test_how_a_command_ended_decides() -> None:
    transform = ppsd_pb2.Assignment().transform
    transform.cmd.append("cmd")
    transform.accept_return_code.append(3)

    def said(code: int | None = None, signal: int | None = None, error: str | None = None) -> str:
        return complaint(Finished(code, signal, error, 0, 0), transform)

    assert said(0) == said(3) == ""
    assert said(1) == "command 'cmd' ended with exit status 1"
    assert said(signal=9) == "command 'cmd' was killed by signal 9"
    assert said(error="no such file") == "command 'cmd' can't be started: no such file"


def file(name: str) -> FileEntry:
    return FileEntry(3, (Chunk(name.encode() * 32, 3),), None, 1)


LAZY: dict[str, Entry] = {
    "/pfs/in/a": file("a"),
    "/pfs/in/sub/a": file("b"),
    "/pfs/in/sub": DIRECTORY,
    "/pfs/more/sub/a": file("c"),
    "/pfs/more/only": file("d"),
    "/pfs/eager/e": file("e"),
}


@pytest.mark.parametrize(
    ("pipe", "source"),
    [
        ("a", "/pfs/in/a"),
        ("copy/a", "/pfs/in/a"),
        ("in/sub/a", "/pfs/in/sub/a"),
        ("x/pfs/more/sub/a", "/pfs/more/sub/a"),
        ("other/only", "/pfs/more/only"),
    ],
)
def test_a_pipe_that_was_copied_becomes_the_lazy_file_of_the_longest_path_that_its_own_ends_in(
    tmp_path: pathlib.Path, pipe: str, source: str
) -> None:
    (tmp_path / pipe).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / pipe)
    assert Stored(tmp_path, LAZY, ["in", "more"]).entries == {f"/{pipe}": LAZY[source]}


@pytest.mark.parametrize("pipe", ["mine", "sub/a", "sub", "e", "eager/e", "in"])
def test_a_pipe_that_is_no_lazy_file_s_or_may_be_several_ones_is_refused_by_name(
    tmp_path: pathlib.Path, pipe: str
) -> None:
    (tmp_path / pipe).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(tmp_path / pipe)
    with pytest.raises(InvalidError, match=f"/pfs/out/{pipe} is a named pipe"):
        Stored(tmp_path, LAZY, ["in", "more"])

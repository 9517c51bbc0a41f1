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
from pfsd.trees import entries, tree
from pfsd.trees.entries import Chunk, DirEntry, Entry, FileEntry
from ppsd.worker.compute import complaint, empty_directory, environment, stdin_of
from ppsd.worker.output import MESSAGE_BYTES, requests
from ppsd.worker.runner import Finished

FILE = FileEntry(3, (Chunk(b"c" * 32, 3),), None, 1)
DIRECTORY = DirEntry(tree.EMPTY, 3, 1, 0)
INPUTS: dict[str, Entry] = {"/pfs/in/a": FILE, "/pfs/in/dir": DIRECTORY}


class Stored:
    """What the messages of an output amount to."""

    def __init__(self, scratch: pathlib.Path, inputs: Mapping[str, Entry] = INPUTS, lazy: Sequence[str] = ()) -> None:
        self.files: dict[str, bytes] = defaultdict(bytes)
        self.entries: dict[str, Entry] = {}
        self.directories: list[str] = []
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


def test_files_and_empty_directories_are_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "sub/empty").mkdir(parents=True)
    (tmp_path / "sub/file").write_bytes(b"data")
    (tmp_path / "nothing").touch()
    stored = Stored(tmp_path)
    assert stored.files == {"/nothing": b"", "/sub/file": b"data"}
    assert stored.directories == ["/sub/empty"]


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
        for above in (tmp_path, *tmp_path.parents[:2]):
            above.chmod(0o755)
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


def test_names_of_one_file_are_all_stored(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one").write_bytes(b"data")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    assert Stored(tmp_path).files == {"/one": b"data", "/two": b"data"}


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
    (scratch / "own").symlink_to("/pfs/out/dir/file")
    (scratch / "relative").symlink_to("dir/../dir")
    (scratch / "host").symlink_to(elsewhere)
    assert Stored(scratch).files == {
        "/dir/file": b"mine",
        "/host/sub/x": b"x",
        "/host/y": b"x",
        "/own": b"mine",
        "/relative/file": b"mine",
    }


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
    (tmp_path / "dangling").symlink_to("not/there")
    refused("dangling", "/pfs/out/dangling is a symlink that can't be followed: /pfs/out/not")
    (tmp_path / "gone").symlink_to("/pfs/in/gone")
    refused("gone", "/pfs/out/gone can't be stored")
    (tmp_path / "circle").symlink_to("circle")
    refused("circle", "/pfs/out/circle is a symlink that leads in a circle")
    (tmp_path / "up").symlink_to(".")
    refused("up", "/pfs/out/up is a symlink to a directory that holds it")
    name = b"latin-\xe9"
    pathlib.Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()
    refused(name, "holds a name that is not UTF-8")
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
    for name, path in (("a", "/x/y"), ("b", "/")):
        added = assignment.inputs.add(name=name, path=path)
        added.commit.id = f"commit-{name}"
    assert environment(assignment) == {
        "PACH_JOB_ID": "j",
        "PACH_OUTPUT_COMMIT_ID": "o",
        "a": "/pfs/a/x/y",
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

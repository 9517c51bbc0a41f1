"""What is large, deep, or has unusual names."""

from __future__ import annotations

import os
import pathlib

from pfsd.names.bytenames import stored_name
from pfsd.names.paths import MAX_DEPTH
from tests.pfsfuse.programs.work import Work

GB = 10**9
LARGE = os.environ.get("PFS_LARGE_TESTS") == "1"
DEPTH = MAX_DEPTH - 1
"""As deep as commits take with the file, and deeper than Python's stack."""
MIDDLE, END = b"in the middle", b"at the end"


def disk_bytes(path: pathlib.Path) -> int:
    return sum(each.lstat().st_blocks * 512 for each in path.rglob("*"))


def test_a_file_of_100_gb_that_is_mostly_hole(work: Work) -> None:
    path = work.top / "large"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 100 * GB)
        os.pwrite(file.fileno(), MIDDLE, 50 * GB)
        os.pwrite(file.fileno(), END, 100 * GB - len(END))
    with work.finished() as top:
        assert (top / "large").stat().st_size == 100 * GB
        with (top / "large").open("rb") as file:
            around = os.pread(file.fileno(), 4096, 50 * GB - 1000)
            assert around == bytes(1000) + MIDDLE + bytes(3096 - len(MIDDLE))
            assert os.pread(file.fileno(), 4096, 100 * GB - len(END)) == END
            assert os.pread(file.fileno(), 4096, 77 * GB) == bytes(4096)
    assert disk_bytes(work.daemon.root) < GB


def test_a_directory_of_many_files(work: Work) -> None:
    count = 1_000_000 if LARGE else 2_000
    where = work.top / "many"
    where.mkdir()
    for number in range(count):
        with (where / f"{number:07}").open("wb") as file:
            file.write(b"%d" % number)
    names = [f"{number:07}" for number in range(count)]
    assert sorted(os.listdir(where)) == names
    with work.finished() as top:
        assert sorted(os.listdir(top / "many")) == names
        for number in range(0, count, count // 200):
            assert (top / f"many/{number:07}").read_bytes() == b"%d" % number


def test_directories_deep_in_each_other(work: Work) -> None:
    within = pathlib.Path("/".join(["d"] * DEPTH))
    work.run("mkdir", "-p", within)
    (work.top / within / "file").write_text("deep down")
    with work.second() as second:
        assert (second / within / "file").read_text() == "deep down"
    with work.finished() as top:
        assert (top / within / "file").read_text() == "deep down"
        assert work.run("find", "d", "-type", "f", cwd=top) == f"{within}/file\n"
        try:
            work.run("cp", "-a", top / "d", work.aside / "d")
            assert (work.aside / within / "file").read_text() == "deep down"
        finally:
            work.run("rm", "-rf", work.aside / "d")  # deeper than pytest can remove


def test_names_of_all_bytes(work: Work) -> None:
    where = os.fsencode(work.top / "names")
    os.mkdir(where)
    single = [bytes([byte]) for byte in range(1, 256) if byte not in b"./"]
    names = sorted([*single, *(b"x" + one + b"y" for one in single), bytes(range(128, 256)), "ä€😀".encode()])
    for name in names:
        with open(where + b"/" + name, "wb") as file:
            file.write(b"I am " + name)

    def check(top: pathlib.Path) -> None:
        found = os.fsencode(top / "names")
        assert sorted(os.listdir(found)) == names
        for name in names:
            with open(found + b"/" + name, "rb") as file:
                assert file.read() == b"I am " + name

    check(work.top)
    with work.second() as second:
        check(second)
    with work.finished() as top:
        check(top)
    listed = work.daemon.pachctl("list-file", "r", "master", "names").stdout.decode().split("\n")
    assert len(listed) == 1 + len(names) + 1  # a heading, and an end of line after each: none within a name
    for name in (b"x\xffy", bytes(range(128, 256)), "ä€😀".encode()):
        assert any(stored_name(name) in line for line in listed)

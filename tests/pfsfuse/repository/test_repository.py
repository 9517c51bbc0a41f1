"""The repository view: real daemons, real mounts, ordinary tools."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import pathlib
import random
import sqlite3
import subprocess
import threading

import pytest

from pachproto import pfs_pb2
from pfsfuse.kernel.mounts import REQUESTS
from tests.support.daemons import Daemon
from tests.support.mounts import WAIT_SECONDS, Mounted, mounting

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")


def put_many(daemon: Daemon, repo: str, files: dict[str, bytes], branch: str = "master") -> pfs_pb2.Commit:
    at = daemon.start_commit(repo, branch)
    daemon.pfs.PutFile(
        pfs_pb2.PutFileRequest(file=pfs_pb2.File(commit=at, path=path), value=data) for path, data in files.items()
    )
    daemon.finish_commit(at)
    return at


def errno_of(path: pathlib.Path | bytes) -> int:
    with pytest.raises(OSError, match="Errno") as caught:
        os.stat(path)
    return caught.value.errno or 0


def test_the_root_tells_how_often_the_kernel_asked_by_kind(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"/one": b"1", "/large": bytes(300_000)})
    before = requests_of(mounted)
    for _ in range(3):
        mounted.run("cat", "r/master/one")
    branch = mounted.path / "r" / "new"
    branch.mkdir()
    (branch / "large").write_bytes(bytes(300_000))
    made = {kind: count - before.get(kind, 0) for kind, count in requests_of(mounted).items()}
    assert made["open"] == 3
    assert made["mkdir"] == made["create"] == 1
    assert made["write"] >= 1
    assert made["getxattr"] >= 1


def requests_of(mounted: Mounted) -> dict[str, int]:
    words = os.getxattr(mounted.path, REQUESTS).decode().split()
    return {kind: int(count) for kind, count in zip(words[::2], words[1::2], strict=True)}


# --- reading -----------------------------------------------------------------------------------------------


def test_a_tree_reads_as_it_was_put(daemon: Daemon, mounted: Mounted, tmp_path: pathlib.Path) -> None:
    files = {
        "a/b/c.txt": b"deep\n",
        "a/empty": b"",
        "a/new\nline and space": b"1",
        "ünï/日本": "ü".encode(),
        "top": os.urandom(300_000),
    }
    daemon.create_repo("r")
    daemon.commit_files("r", {f"/{path}": data for path, data in files.items()})
    master = mounted.path / "r" / "master"
    found = {str(path.relative_to(master)): path.read_bytes() for path in master.rglob("*") if path.is_file()}
    assert found == files
    mounted.run("cp", "-r", "r/master", str(tmp_path / "copy"))
    mounted.run("diff", "-r", "r/master", str(tmp_path / "copy"))
    assert mounted.run("grep", "-rl", "deep", "r") == b"r/master/a/b/c.txt\n"
    mounted.run("tar", "cf", str(tmp_path / "all.tar"), "-C", "r/master", ".")
    mounted.run("tar", "df", str(tmp_path / "all.tar"), "-C", "r/master")


def test_ordinary_programs_agree_with_the_disk(daemon: Daemon, mounted: Mounted, tmp_path: pathlib.Path) -> None:
    local = tmp_path / "local"
    (local / "deep/er").mkdir(parents=True)
    for number in range(40):
        (local / "deep" / f"{number}").write_bytes(random.Random(number).randbytes(number * 1000))
    with contextlib.closing(sqlite3.connect(local / "base.db")) as base, base:
        base.execute("create table t (n integer, s text)")
        base.executemany("insert into t values (?, ?)", ((number, "x" * number) for number in range(500)))
        base.execute("create index i on t (n)")
    (local / "deep/er/text").write_text("one\ntwo\n")
    daemon.create_repo("r")
    daemon.pachctl("put-file", "-c", "-r", "r", "master", "/", "-f", str(local))
    master = mounted.path / "r/master"
    there, here = (
        sorted((path.removeprefix(str(top)), sorted(names), sorted(files)) for path, names, files in os.walk(top))
        for top in (master, local)
    )
    assert there == here
    mounted.run("rsync", "-r", "r/master/", str(tmp_path / "synced"))
    mounted.run("diff", "-r", "r/master", str(tmp_path / "synced"))
    assert mounted.run("rsync", "-rcni", "r/master/", str(local)) == b""
    for command in (
        ("du", "-b", "deep/er/text"),
        ("md5sum", "deep/39", "base.db"),
        ("grep", "-rn", "two", "."),
    ):
        assert mounted.run(*command, cwd="r/master") == subprocess.check_output(command, cwd=local)
    reader = f"file:{master}/base.db?immutable=1"
    for address in (reader, f"file:{master}/base.db?mode=ro"):
        with contextlib.closing(sqlite3.connect(address, uri=True)) as base:
            assert base.execute("select count(*), sum(length(s)) from t where n > 100").fetchone() == (399, 119700)
    told = mounted.run("getfattr", "-n", "user.pfs.state", "r/master/base.db").decode()
    assert 'user.pfs.state="finished"' in told
    assert int(os.getxattr(mounted.path, "user.pfs.calls")) > 0


def test_repos_and_branches_are_listed_and_empty_ones_are_empty(daemon: Daemon, mounted: Mounted) -> None:
    assert os.listdir(mounted.path) == []
    daemon.create_repo("b")
    daemon.create_repo("a")
    first = daemon.commit_files("a", {"/x": b"1"})
    daemon.commit_files("a", {"/x": b"2"}, "dev")
    assert os.listdir(mounted.path) == ["a", "b"]
    assert os.listdir(mounted.path / "a") == ["dev", "master"]
    assert os.listdir(mounted.path / "b") == []
    assert os.listdir(mounted.path / "a" / first.id) == ["x"]


def test_all_commits_lists_each_by_its_id(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    commits = [daemon.commit_files("r", {f"/{number}": b"x"}).id for number in range(3)]
    opened = daemon.start_commit("r", "work").id
    with mounting(daemon, tmp_path / "mnt", "--all-commits") as mounted:
        repo = mounted.path / "r"
        assert sorted(os.listdir(repo)) == sorted([*commits, opened, "master", "work"])
        assert os.listdir(repo / commits[1]) == ["0", "1"]


def test_ancestors_are_named_by_carets_and_tildes(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    for number in range(4):
        daemon.commit_files("r", {f"/{number}": b"x"})
    repo = mounted.path / "r"
    assert os.listdir(repo / "master^") == ["0", "1", "2"]
    assert os.listdir(repo / "master^^") == os.listdir(repo / "master~2") == ["0", "1"]
    assert os.listdir(repo / "master~1^~1") == ["0"]
    assert errno_of(repo / "master~4") == errno.ENOENT
    assert errno_of(repo / "nope^") == errno.ENOENT


def test_what_is_not_there_is_enoent(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"/f": b"x"})
    for path in ("nope", "no pe", "r/nope", "r/" + "0" * 32, "r/master/nope", "r/master/nope/x"):
        assert errno_of(mounted.path / path) == errno.ENOENT, path
    for raw in (b"\xff", b"r/\xff", b"r/master/\xff"):
        assert errno_of(os.fsencode(mounted.path) + b"/" + raw) == errno.ENOENT, raw
    assert errno_of(mounted.path / "r/master/f/x") == errno.ENOTDIR
    daemon.create_repo("nope")
    assert os.listdir(mounted.path / "nope") == []


def test_nothing_can_be_written_to_a_finished_commit(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"/f": b"x"})
    file = mounted.path / "r/master/f"
    for change in (
        lambda: file.write_bytes(b"y"),
        file.unlink,
        lambda: os.truncate(file, 0),
        lambda: file.rename(mounted.path / "r/master/g"),
        (mounted.path / "r/master/d").mkdir,
        lambda: os.setxattr(file, "user.x", b"y"),
        lambda: file.chmod(0o777),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()
    assert file.read_bytes() == b"x"


def test_a_large_file_reads_in_order_at_random_and_mapped(daemon: Daemon, mounted: Mounted) -> None:
    data = random.Random(7).randbytes(40 << 20)
    daemon.create_repo("r")
    daemon.commit_files("r", {"/big": data})
    path = mounted.path / "r/master/big"
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for at in random.Random(8).choices(range(len(data)), k=40):
            assert os.pread(file.fileno(), 5000, at) == data[at : at + 5000]
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[17_000_000:21_000_000] == data[17_000_000:21_000_000]
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()


def test_many_readers_of_one_cold_file_agree(daemon: Daemon, mounted: Mounted) -> None:
    data = random.Random(9).randbytes(12 << 20)
    daemon.create_repo("r")
    daemon.commit_files("r", {"/big": data})
    readers = [
        subprocess.Popen(["md5sum", "r/master/big"], cwd=mounted.path, stdout=subprocess.PIPE) for _ in range(16)
    ]
    want = hashlib.md5(data).hexdigest().encode()
    assert all(reader.communicate(timeout=60)[0].startswith(want) for reader in readers)


def test_files_and_directories_are_opened_again_and_again(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    files = {f"/d/{number:03}/f": os.urandom(number) for number in range(1, 60)}
    daemon.commit_files("r", files)
    top = mounted.path / "r" / "master" / "d"
    for _ in range(3):
        assert {f"/d/{path.name}/f": (path / "f").read_bytes() for path in top.iterdir()} == files
        with pytest.raises(OSError, match="Read-only"):
            os.open(top / "001" / "f", os.O_RDWR)
    daemon.start_commit("r")
    (top / "001" / "g").write_bytes(b"new")
    assert sorted(os.listdir(top / "001")) == ["f", "g"]
    (top / "001" / "f").unlink()
    assert os.listdir(top / "001") == ["g"]


def test_many_small_files_are_opened_at_the_same_time_by_several(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    files = {f"/{number % 7}/{number:04}": b"%d" % number * (number % 50) for number in range(1, 700)}
    daemon.commit_files("r", files)
    master = mounted.path / "r" / "master"

    def read() -> None:
        listed = sorted(path for directory in master.iterdir() for path in directory.iterdir())
        found.append({f"/{path.relative_to(master)}": path.read_bytes() for path in listed})

    found: list[dict[str, bytes]] = []
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert found == [files] * 4


def test_one_file_is_read_at_random_by_many(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    data = random.Random(4).randbytes(24 << 20)
    daemon.commit_files("r", {"/file": data})

    def read(seed: int) -> None:
        chosen = random.Random(seed)
        with (mounted.path / "r/master/file").open("rb", buffering=0) as file:
            for _ in range(400):
                offset, size = chosen.randrange(len(data) + 5000), chosen.choice((1, 4096, 300_000))
                differing.append(os.pread(file.fileno(), size, offset) != data[offset : offset + size])

    differing: list[bool] = []
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert differing == [False] * 1600


def test_a_directory_of_thousands_lists_in_order_again_and_from_the_middle(daemon: Daemon, mounted: Mounted) -> None:
    files = {f"/d/{number:05}": str(number).encode() for number in range(3000)}
    daemon.create_repo("r")
    put_many(daemon, "r", files)
    directory = mounted.path / "r/master/d"
    names = [f"{number:05}" for number in range(3000)]
    assert os.listdir(directory) == names
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        assert os.listdir(descriptor) == names
        assert os.listdir(descriptor) == names  # rewound
    finally:
        os.close(descriptor)
    assert b"".join(path.read_bytes() for path in sorted(directory.iterdir())) == b"".join(files.values())


def test_attributes_make_sense_and_numbers_last(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    at = daemon.commit_files("r", {"/d/f": b"x" * 1000})
    finished = daemon.pfs.InspectCommit(pfs_pb2.InspectCommitRequest(commit=at)).finished
    numbers = []
    for _ in range(2):
        with mounting(daemon, tmp_path / "mnt") as mounted:
            file, directory = (mounted.path / "r/master/d/f").stat(), (mounted.path / "r/master/d").stat()
            numbers.append((file.st_ino, directory.st_ino))
            assert file.st_size == 1000
            assert file.st_blocks == 2
            assert file.st_mtime_ns == directory.st_mtime_ns == finished.seconds * 10**9 + finished.nanos
            assert (file.st_mode & 0o777, directory.st_mode & 0o777) == (0o644, 0o755)
            assert (file.st_uid, file.st_gid) == (os.getuid(), os.getgid())
            entries = {entry.name: entry.inode() for entry in os.scandir(mounted.path / "r/master/d")}
            assert entries == {"f": file.st_ino}
            space = os.statvfs(mounted.path)
            assert (space.f_blocks - space.f_bfree, space.f_namemax) == (1, 1024)
    assert numbers[0] == numbers[1]


def test_extended_attributes_tell_hash_commit_and_provenance(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    first = daemon.commit_files("r", {"/a": b"same", "/d/b": b"same", "/c": b"other"})
    daemon.create_repo("out", "r")
    made = daemon.pfs.StartCommit(
        pfs_pb2.StartCommitRequest(
            parent=pfs_pb2.Commit(repo=pfs_pb2.Repo(name="out")), branch="master", provenance=[first]
        )
    )
    daemon.finish_commit(made)
    tree = mounted.path / "r/master"
    info = daemon.pfs.InspectFile(pfs_pb2.InspectFileRequest(file=pfs_pb2.File(commit=first, path="/d/b")))
    assert os.getxattr(tree / "d/b", "user.pfs.hash") == info.hash.hex().encode()
    assert os.getxattr(tree / "a", "user.pfs.hash") == os.getxattr(tree / "d/b", "user.pfs.hash")
    assert os.getxattr(tree / "c", "user.pfs.hash") != os.getxattr(tree / "a", "user.pfs.hash")
    assert os.getxattr(tree, "user.pfs.commit") == f"r/{first.id}".encode()
    assert os.listxattr(tree / "a") == []
    assert os.getxattr(tree / "a", "user.pfs.state") == b"finished"
    assert os.getxattr(tree / "a", "user.pfs.branch") == b"master"
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(mounted.path / "r" / first.id / "a", "user.pfs.branch")
    assert os.getxattr(mounted.path / "out/master", "user.pfs.provenance") == f"r/{first.id}".encode()
    assert os.listxattr(mounted.path / "r") == []
    with pytest.raises(OSError, match="No data available"):
        os.getxattr(tree / "a", "user.other")


# --- commits that move -------------------------------------------------------------------------------------


def test_what_was_opened_stays_and_the_next_walk_sees_the_new_head(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"/d/f": b"old"})
    master = mounted.path / "r/master"
    directory = os.open(master / "d", os.O_RDONLY)
    try:
        with (master / "d/f").open("rb") as file:
            daemon.commit_files("r", {"/d/f": b"new", "/d/g": b""})
            assert file.read() == b"old"
            assert os.listdir(directory) == ["f"]
            assert os.stat("f", dir_fd=directory).st_size == 3
            assert (master / "d/f").read_bytes() == b"oldnew"
            assert os.listdir(master / "d") == ["f", "g"]
    finally:
        os.close(directory)


def test_a_branch_that_was_set_is_seen_at_once(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    commits = [daemon.commit_files("r", {f"/{name}": b""}) for name in "ab"]
    want = [["a"], ["a", "b"]]
    for turn in range(60):
        daemon.pfs.SetBranch(pfs_pb2.SetBranchRequest(commit=commits[turn % 2], branch="master"))
        assert os.listdir(mounted.path / "r/master") == want[turn % 2]
    daemon.pfs.DeleteBranch(pfs_pb2.DeleteBranchRequest(repo=pfs_pb2.Repo(name="r"), branch="master"))
    assert errno_of(mounted.path / "r/master") == errno.ENOENT


def test_an_open_commit_shows_its_writes(daemon: Daemon, mounted: Mounted) -> None:
    daemon.create_repo("r")
    at = daemon.start_commit("r")
    master = mounted.path / "r/master"
    assert os.listdir(master) == []
    for number in range(5):
        daemon.put(at, f"/{number}", b"x")
        assert os.listdir(master) == [str(name) for name in range(number + 1)]
    daemon.put(at, "/0", b"y")
    assert (master / "0").read_bytes() == b"xy"


# --- faults ------------------------------------------------------------------------------------------------


def test_a_read_goes_on_over_a_kill_and_restart_of_the_daemon(daemon: Daemon, mounted: Mounted) -> None:
    data = random.Random(3).randbytes(24 << 20)
    daemon.create_repo("r")
    daemon.commit_files("r", {"/big": data, "/dir/small": b"x"})
    with (mounted.path / "r/master/big").open("rb") as file:
        head = file.read(1 << 20)
        daemon.kill()
        names: list[str] = []
        waiting = threading.Thread(target=lambda: names.extend(os.listdir(mounted.path / "r/master/dir")))
        waiting.start()
        daemon.start()
        rest = file.read()
        waiting.join(WAIT_SECONDS)
    assert head + rest == data
    assert names == ["small"]

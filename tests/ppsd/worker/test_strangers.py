"""User code is a stranger on the machine of its worker: what it is given, and what it can't see."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import grpc
import pytest

from pachproto import pfsd_pb2, pps_pb2
from pfsfuse.content.remotepacks import own_directories
from tests.pfsfuse.job.test_job import needs_root
from tests.support.daemons import Daemon, commit, running
from tests.support.pipelines import flush, inspect, logs, spec, until

pytestmark = needs_root

LOOK = """
import glob, json, os, tempfile

def first():
    try:
        return open("/proc/1/environ").read()
    except PermissionError:
        return ""

json.dump({
    "env": dict(os.environ),
    "processes": sorted(int(one) for one in os.listdir("/proc") if one.isdecimal()),
    "own": os.getpid(),
    "first": first(),
    "open": sorted(os.readlink(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd") if int(one) < 3),
    "more": len([one for one in os.listdir("/proc/self/fd") if int(one) > 2]),
    "root": os.listdir(ROOT),
    "temporary": [os.listdir(os.environ["TMPDIR"]), os.listdir(os.environ["HOME"])],
}, open(f"/pfs/out/{os.path.basename(os.environ['in'])}", "w"))
for place in ("TMPDIR", "HOME"):
    open(os.environ[place] + "/left", "w").write("left")
    os.makedirs(os.environ[place] + "/deep/er", exist_ok=True)
"""


@pytest.fixture
def daemon(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon with something to hide."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show")
    with running(tmp_path / "root") as started:
        yield started


def one_worker(stdin: list[str]) -> pps_pb2.CreatePipelineRequest:
    return spec(stdin=stdin, parallelism_spec={"constant": 1})


def private_directories(daemon: Daemon) -> list[pathlib.Path]:
    """What workers of this daemon have made for their user code beside its output."""
    assert daemon.process is not None
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_text().split("\0")
            except OSError:  # it has ended
                continue
            if daemon.address in words and "--private" in words:
                found.append(pathlib.Path(words[words.index("--private") + 1]))
    return found


def test_user_code_gets_what_is_documented_and_sees_itself_alone(daemon: Daemon) -> None:
    daemon.create_repo("in")
    request = one_worker([LOOK.replace("ROOT", repr(str(daemon.root)))])
    request.transform.cmd[:] = [sys.executable, "-"]
    request.transform.env["GIVEN"] = "by the spec"
    daemon.pps.CreatePipeline(request)
    given = daemon.commit_files("in", {"a": b"a", "b": b"b"})
    [made] = flush(daemon, given)
    for name in "ab":
        seen = json.loads(daemon.get(made.commit, name))
        env = seen["env"]
        assert set(env) - {"LC_CTYPE"} == {
            *("PATH", "HOME", "LANG", "TMPDIR", "GIVEN", "PACH_JOB_ID", "PACH_OUTPUT_COMMIT_ID", "in", "in_COMMIT")
        }
        assert (env["GIVEN"], env["in"], env["in_COMMIT"]) == ("by the spec", f"/pfs/in/{name}", given.id)
        assert env["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        assert seen["processes"] == [1, seen["own"]]
        assert seen["first"] == ""
        assert seen["more"] == 1  # the directory that is being listed
        assert seen["root"] == []
    first, second = sorted(
        (json.loads(daemon.get(made.commit, name))["temporary"] for name in "ab"), key=lambda one: len(one[1])
    )
    assert first == [[], []]
    assert second[0] == []
    assert set(second[1]) == {"left", "deep"}  # the home stays as long as the worker


UNDO = """
mkdir /tmp/pfs-undo; trap 'rmdir /tmp/pfs-undo' EXIT
for try in \
    'umount SECRETS' 'umount -l ROOT' 'mount --bind / /tmp/pfs-undo' 'mount -t proc proc /tmp/pfs-undo' \
    'unshare -m umount ROOT' 'unshare -rm umount ROOT' 'unshare -rm mount --bind / /tmp/pfs-undo' \
    'nsenter -t 1 -m umount ROOT' 'chattr +i /pfs/out/done' 'mknod /pfs/out/disk b 8 0'
do
    echo "$try" >> /pfs/out/done
    if $try; then echo "$try" >> /pfs/out/undone; fi
done
ls ROOT /tmp/pfs-undo/ROOT/secrets 2> /dev/null | grep key >> /pfs/out/undone || true
"""


def test_user_code_can_not_undo_what_hides_the_rest(daemon: Daemon) -> None:
    secret = daemon.root / "secrets/s"
    secret.mkdir(parents=True)
    (secret / "key").write_text("inside")
    daemon.create_repo("in")
    lines = UNDO.replace("SECRETS", f"{daemon.root}/secrets").replace("ROOT", str(daemon.root)).splitlines()
    request = one_worker(lines)
    request.transform.cmd[:] = ["bash"]
    daemon.pps.CreatePipeline(request)
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    assert daemon.get(commit("upper", "master"), "done").count(b"\n") == 10
    assert daemon.get(commit("upper", "master"), "undone") == b""


def test_what_user_code_writes_for_itself_goes_with_the_datum_and_the_worker(daemon: Daemon) -> None:
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(
        one_worker(['echo "$TMPDIR $HOME" > /pfs/out/places; cp -r /usr/include/linux "$TMPDIR/"'])
    )
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    temporary, home = daemon.get(commit("upper", "master"), "places").decode().split()
    [private] = private_directories(daemon)
    assert {pathlib.Path(temporary).parent, pathlib.Path(home).parent} == {private}
    assert private.parent == pathlib.Path(tempfile.gettempdir())
    assert private.stat().st_mode & 0o077 == 0
    until(lambda: os.listdir(temporary) == [])
    daemon.stop()
    assert not private.exists()


def test_what_a_killed_daemon_left_goes_at_the_next_start(daemon: Daemon) -> None:
    daemon.create_repo("in")
    daemon.pps.CreatePipeline(one_worker(["true"]))
    flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    [private] = private_directories(daemon)
    daemon.kill()
    assert private.exists()
    daemon.start()
    until(lambda: not private.exists())


def test_a_symlink_leads_to_nothing_that_user_code_could_not_see(daemon: Daemon) -> None:
    daemon.create_repo("in")
    (daemon.root / "secrets/other").mkdir(parents=True)
    (daemon.root / "secrets/other/key").write_text("hush")
    daemon.pps.CreatePipeline(one_worker([f"ln -s {daemon.root}/secrets/other/key /pfs/out/stolen"]))
    with pytest.raises(grpc.RpcError, match="/pfs/out/stolen is a symlink that can't be followed"):
        flush(daemon, daemon.commit_files("in", {"a": b"a"}))


def test_a_symlink_to_what_user_code_sees_is_followed(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("in")
    (tmp_path / "plain").write_text("plain")
    lines = [f"ln -s {tmp_path}/plain /pfs/out/host", 'echo t > "$TMPDIR/t"; ln -s "$TMPDIR/t" /pfs/out/temporary']
    daemon.pps.CreatePipeline(one_worker(lines))
    [made] = flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    assert [daemon.get(made.commit, name) for name in ("host", "temporary")] == [b"plain", b"t\n"]


def test_secrets_are_copies_that_nobody_can_write(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("in")
    kept, shown = daemon.root / "secrets/s", tmp_path / "shown"
    kept.mkdir(parents=True)
    (kept / "key").write_text("inside")
    (kept / "link").symlink_to(kept / "key")
    lines = [
        f"cat {shown}/key {shown}/link > /pfs/out/read",
        f"for way in 'echo x > {shown}/key' 'echo x > {shown}/new' 'rm {shown}/key' 'chmod 777 {shown}/key'; do",
        '  if sh -c "$way" 2>/dev/null; then echo "$way" >> /pfs/out/worked; fi',
        "done",
    ]
    request = one_worker(lines)
    request.transform.secrets.add(name="s", mount_path=str(shown))
    daemon.pps.CreatePipeline(request)
    [made] = flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    assert daemon.list(made.commit) == ["read"]
    assert daemon.get(made.commit, "read") == b"inside" * 2
    assert {one.name: one.read_text() for one in kept.iterdir()} == {"key": "inside", "link": "inside"}


def test_a_secret_that_is_too_large_fails_the_pipeline_with_its_name(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("in")
    kept = daemon.root / "secrets/large"
    kept.mkdir(parents=True)
    (kept / "key").write_bytes(bytes(17 << 20))
    request = one_worker(["true"])
    request.transform.secrets.add(name="large", mount_path=str(tmp_path / "shown"))
    daemon.pps.CreatePipeline(request)
    with pytest.raises(grpc.RpcError, match="secret large can't be copied for user code, of at most 16 MiB"):
        flush(daemon, daemon.commit_files("in", {"a": b"a"}))
    assert inspect(daemon).state == pps_pb2.PIPELINE_FAILURE


def test_where_the_kernel_refuses_it_the_jobs_log_says_so(tmp_path: pathlib.Path) -> None:
    without = 'echo 0 > /proc/sys/user/max_pid_namespaces && exec "$@"'
    wrapper = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", without, "sh")
    if subprocess.run([*wrapper, "true"], capture_output=True, check=False).returncode:
        pytest.skip("user namespaces can't be made here")
    daemon = Daemon(tmp_path / "root", wrapper=wrapper)
    try:
        daemon.start()
        daemon.create_repo("in")
        daemon.pps.CreatePipeline(one_worker(["ls /pfs/in > /pfs/out/seen"]))
        [made] = flush(daemon, daemon.commit_files("in", {"a": b"a", "b": b"b"}))
        assert daemon.get(made.commit, "seen") == b"a\nb\n"
        said = [
            line.message
            for line in logs(daemon, pipeline=inspect(daemon).pipeline)
            if "is not kept apart" in line.message
        ]
        assert len(said) == 1
        assert "the processes of others can be seen, for there is no PID namespace" in said[0]
    finally:
        daemon.end()


def test_the_directories_of_a_store_are_hidden_where_they_are_its_own(tmp_path: pathlib.Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    info = pfsd_pb2.StoreInfo(id="ab" * 16, spool=str(root / "spool"), cache_dir=str(cache))
    assert own_directories(info, None) == []
    (root / "FORMAT").write_text(f"pfsd 2 {'cd' * 16}\n")
    assert own_directories(info, None) == []  # the daemon is elsewhere, and this is another's
    (root / "FORMAT").write_text(f"pfsd 2 {'ab' * 16}\n")
    cache.mkdir()
    assert own_directories(info, None) == [str(cache), str(root)]


SHARED = """
readlink /proc/self/ns/ipc
grep NoNewPrivs /proc/self/status
ls -A /dev/shm | grep -v '^left$' || true
test ! -e /dev/shm/left || echo 'what another datum left'
mkdir /dev/shm/deep; echo left | tee /dev/shm/left > /dev/shm/deep/left
"""


def test_user_code_shares_no_memory_with_others_and_gains_no_rights(daemon: Daemon) -> None:
    daemon.create_repo("in")
    lines = ["exec > /pfs/out/$(basename $in)", *SHARED.splitlines()]
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="pfs-test-"):
        daemon.pps.CreatePipeline(one_worker(lines))
        flush(daemon, daemon.commit_files("in", {"a": b"a", "b": b"b"}))
        assert not pathlib.Path("/dev/shm/left").exists()
    for name in "ab":
        ipc, rights, *more = daemon.get(commit("upper", "master"), name).decode().splitlines()
        assert ipc.startswith("ipc:[")
        assert ipc != os.readlink("/proc/self/ns/ipc")
        assert rights.split() == ["NoNewPrivs:", "1"]
        assert more == []

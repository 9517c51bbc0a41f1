"""The static runner and its client, with real processes."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import stat
import sys

import pyfuse3
import pytest
import trio
from trio.testing import trio_test

from pfsd.errors import InvalidError
from ppsd.worker.runner import Runner, RunnerError
from tests.support.runners import ENV, Outputs, opened, run

# ---- how commands end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
@trio_test
async def test_exit_code(code: int) -> None:
    async with opened() as runner:
        finished, _ = await run(runner, "sh", "-c", f"exit {code}")
        assert (finished.exit_code, finished.signal, finished.error) == (code, None, None)


@trio_test
async def test_signal() -> None:
    async with opened() as runner:
        finished, _ = await run(runner, "sh", "-c", "kill -TERM $$")
        assert (finished.exit_code, finished.signal, finished.error) == (None, signal.SIGTERM, None)


@trio_test
async def test_what_could_not_start(tmp_path: pathlib.Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    orphan = tmp_path / "orphan"
    orphan.write_text("#!/no/interpreter\n")
    headless = tmp_path / "headless"
    headless.write_text("echo no shell runs this\n")
    for script in (orphan, headless):
        script.chmod(0o755)
    texts = {
        "/no/such": 'exec "/no/such": No such file or directory',
        "no-such": 'exec "no-such": not found in PATH "/usr/bin:/bin"',
        "": 'exec "": No such file or directory',
        str(plain): f'exec "{plain}": Permission denied',
        str(orphan): f'exec "{orphan}": its interpreter or loader does not exist',
        str(headless): f'exec "{headless}": Exec format error',
    }
    async with opened() as runner:
        for name, text in texts.items():
            finished, outputs = await run(runner, name)
            assert (finished.exit_code, finished.signal, finished.error) == (None, None, text)
            assert (outputs.stdout, outputs.stderr) == (b"", b"")
        finished, _ = await run(runner, "true", cwd="/no/such")
        assert finished.error == 'chdir "/no/such": No such file or directory'
        finished, _ = await run(runner, "true", "x" * (200 << 10))
        assert finished.error == 'exec "true": Argument list too long'
        finished, _ = await run(runner, "true")
        assert finished.exit_code == 0


@trio_test
async def test_usage_is_the_command_and_not_the_runner() -> None:
    burn = "import time\nb = b'x' * (64 << 20)\nwhile time.process_time() < 0.2: pass"
    async with opened() as runner:
        busy, _ = await run(runner, sys.executable, "-S", "-c", burn)
        assert busy.cpu_seconds >= 0.2
        assert 64 << 20 <= busy.max_rss_bytes < 256 << 20
        behind, _ = await run(runner, "sh", "-c", f'{sys.executable} -S -c "{burn}" & wait')
        assert behind.cpu_seconds >= 0.2
        idle, _ = await run(runner, "true", stdin=bytes(64 << 20))
        assert idle.cpu_seconds < 0.2
        assert 0 < idle.max_rss_bytes < 48 << 20


# ---- what a command finds --------------------------------------------------------------------------------


@trio_test
async def test_environment_directory_and_arguments_arrive_as_given(tmp_path: pathlib.Path) -> None:
    directory = tmp_path / os.fsdecode(b"d\xff")
    directory.mkdir()
    odd = ["a b", "", "*", "$HOME", "ä\n", os.fsdecode(b"\xfe\x80")]
    async with opened() as runner:
        finished, outputs = await run(runner, "env", env={**ENV, "X": "1=2", "Y": os.fsdecode(b"\xff"), "E": ""})
        assert finished.exit_code == 0
        assert sorted(outputs.stdout.splitlines()) == [b"E=", b"PATH=/usr/bin:/bin", b"X=1=2", b"Y=\xff"]
        finished, outputs = await run(runner, "pwd", cwd=str(directory))
        assert outputs.stdout == os.fsencode(directory) + b"\n"
        finished, outputs = await run(runner, "printf", "%s\\0", *odd)
        assert outputs.stdout == b"".join(os.fsencode(text) + b"\0" for text in odd)


@trio_test
async def test_program_is_searched_in_the_given_path(tmp_path: pathlib.Path) -> None:
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        script = tmp_path / name / "tool"
        script.write_text(f"#!/bin/sh\necho {name}\n")
        script.chmod(mode)
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    async with opened() as runner:
        _, outputs = await run(runner, "tool", env={"PATH": f"/no/such:{first}:/etc/passwd:{second}"})
        assert outputs.stdout == b"second\n"
        finished, _ = await run(runner, "tool", env={"PATH": first})
        assert finished.error == 'exec "tool": Permission denied'
        _, outputs = await run(runner, "tool", env={"PATH": "/no/such:"}, cwd=second)
        assert outputs.stdout == b"second\n"
        _, outputs = await run(runner, "./tool", env={}, cwd=second)
        assert outputs.stdout == b"second\n"
        finished, _ = await run(runner, "true", env={})
        assert finished.exit_code == 0


@trio_test
async def test_process_state_is_clean() -> None:
    async with opened() as runner:
        _, outputs = await run(runner, "grep", "-E", "Sig(Blk|Ign)", "/proc/self/status")
        assert {line.split()[1] for line in outputs.stdout.splitlines()} == {b"0" * 16}
        _, outputs = await run(runner, "cut", "-d ", "-f1,5,6", "/proc/self/stat")
        pid, group, session = outputs.stdout.split()
        assert pid == group == session
        _, outputs = await run(runner, "ls", "/proc/self/fd")
        assert outputs.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is the directory that ls reads


# ---- standard input and output ---------------------------------------------------------------------------


@trio_test
async def test_large_input_and_output_at_once() -> None:
    data = os.urandom(1 << 20) * 24
    async with opened() as runner:
        finished, outputs = await run(runner, "sh", "-c", "tee /dev/stderr", stdin=data)
        assert finished.exit_code == 0
        assert outputs.stdout == data
        assert outputs.stderr == data


@trio_test
async def test_no_input_is_an_empty_input() -> None:
    async with opened() as runner:
        finished, outputs = await run(runner, "cat")
        assert (finished.exit_code, outputs.stdout) == (0, b"")


@trio_test
async def test_input_that_is_not_read_does_not_matter() -> None:
    data = bytes(8 << 20)
    async with opened() as runner:
        for script in ("true", "exec <&-; echo closed", "head -c 1 >/dev/null; exec <&-; echo closed"):
            finished, _ = await run(runner, "sh", "-c", script, stdin=data)
            assert finished.exit_code == 0
        _, outputs = await run(runner, "cat", stdin=b"new")
        assert outputs.stdout == b"new"


@trio_test
async def test_all_output_comes_before_the_end() -> None:
    async with opened() as runner:
        for _ in range(50):
            finished, outputs = await run(runner, "sh", "-c", "head -c 65536 /dev/zero; echo end >&2; exit 3")
            assert finished.exit_code == 3
            assert len(outputs.stdout) == 65536
            assert outputs.stderr == b"end\n"


@trio_test
async def test_output_arrives_while_the_command_runs(tmp_path: pathlib.Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    outputs = Outputs()
    async with opened() as runner, trio.open_nursery() as nursery:

        async def answer() -> None:
            await outputs.ready.wait()
            assert outputs.stdout == b"ready\n"
            async with await trio.open_file(fifo, "w") as file:
                await file.write("go\n")

        nursery.start_soon(answer)
        script = f"echo ready; read word <{fifo}; echo $word"
        finished = await runner.run(["sh", "-c", script], env=ENV, cwd="/", on_output=outputs)
        assert finished.exit_code == 0
        assert outputs.stdout == b"ready\ngo\n"


@trio_test
async def test_program_that_is_not_there() -> None:
    with pytest.raises(RunnerError, match="runner /no/such can't be started: No such file or directory"):
        async with Runner.open("/no/such"):
            pass


@pytest.mark.parametrize(
    ("argv", "env"),
    [
        ([], {}),
        (["a\0b"], {}),
        (["\ud800"], {}),
        (["true"], {"": "x"}),
        (["true"], {"A=B": "x"}),
        (["true", "x" * (9 << 20)], {}),
    ],
    ids=["no-program", "zero-byte", "surrogate", "no-name", "equals-sign", "too-large"],
)
@trio_test
async def test_impossible_arguments(argv: list[str], env: dict[str, str]) -> None:
    async with opened() as runner:
        with pytest.raises(InvalidError):
            await run(runner, *argv, env=env)
        finished, _ = await run(runner, "true")
        assert finished.exit_code == 0


# ---- files served by the client itself -------------------------------------------------------------------


class OneScript(pyfuse3.Operations):
    """A file system whose root holds one executable script."""

    NAME = b"script"
    TEXT = b"#!/bin/sh\npwd\ncat script | wc -l\n"
    INODE = pyfuse3.ROOT_INODE + 1

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext | None = None) -> pyfuse3.EntryAttributes:
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        is_root = inode == pyfuse3.ROOT_INODE
        entry.st_mode = (stat.S_IFDIR if is_root else stat.S_IFREG) | 0o755
        entry.st_size = 0 if is_root else len(self.TEXT)
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if name != self.NAME:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(self.INODE)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return pyfuse3.FileInfo(fh=inode)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        return self.TEXT[offset : offset + size]


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="mounting needs root and /dev/fuse")
@trio_test
async def test_command_in_a_file_system_that_this_very_loop_serves(tmp_path: pathlib.Path) -> None:
    async with opened() as runner:
        pyfuse3.init(OneScript(), str(tmp_path), set(pyfuse3.default_options))
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pyfuse3.main)
                finished, outputs = await run(runner, str(tmp_path / "script"), cwd=str(tmp_path))
                assert finished.exit_code == 0, outputs.stderr
                assert outputs.stdout.split() == [os.fsencode(tmp_path), b"3"]
                finished, _ = await run(runner, str(tmp_path / "other"), cwd=str(tmp_path))
                assert finished.error == f'exec "{tmp_path}/other": No such file or directory'
                pyfuse3.terminate()
        finally:
            pyfuse3.close(unmount=True)

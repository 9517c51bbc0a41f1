"""The end of a mount: it comes, and all who used it are told, also when they and the mount wait for each other."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import threading

import pyfuse3
import pytest
import trio

from pfsfuse.kernel import notify
from pfsfuse.kernel.mounts import mount_at, source_options
from pfsfuse.kernel.serve import mounted

WAIT_SECONDS = 60

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="FUSE can't be used here: no /dev/fuse")


class Silent(pyfuse3.Operations):
    """A root directory that never answers when it is asked for a name."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = trio.Event()

    async def getattr(self, inode: int, context: object) -> pyfuse3.EntryAttributes:
        attributes = pyfuse3.EntryAttributes()
        attributes.st_ino, attributes.st_mode, attributes.st_nlink = inode, 0o40755, 2
        return attributes

    async def lookup(self, parent: int, name: bytes, context: object) -> pyfuse3.EntryAttributes:
        self.asked.set()
        await trio.sleep_forever()
        raise AssertionError


async def serve(path: str) -> None:
    """Serve such a directory until SIGTERM, and have a thread wait in the kernel for the one who asks for a name."""
    silent = Silent()
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with mounted(silent, path, options=source_options("test")):
            print("mounted", flush=True)  # noqa: T201
            await silent.asked.wait()
            names = [(pyfuse3.ROOT_INODE, b"other")]
            thread = threading.Thread(target=notify.expire, args=(notify.session_descriptor(), names), daemon=True)
            thread.start()
            while not is_stuck(thread):
                await trio.sleep(0.01)
            print("stuck", flush=True)  # noqa: T201
            async for _ in signals:
                break


def is_stuck(thread: threading.Thread) -> bool:
    """Whether a thread of this process waits in the kernel and can't be interrupted."""
    status = pathlib.Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return "State:\tD" in status


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can end it where FUSE's connections are not shown")
def test_a_mount_ends_while_a_thread_of_it_waits_for_a_program_that_waits_for_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "mnt"
    path.mkdir()
    command = [sys.executable, "-m", "tests.pfsfuse.kernel.test_serve", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "mounted\n"
            with subprocess.Popen(["stat", str(path / "name")], stderr=subprocess.PIPE, text=True) as program:
                assert process.stdout.readline() == "stuck\n"
                process.terminate()
                assert process.wait(WAIT_SECONDS) == 0
                said = program.communicate(timeout=WAIT_SECONDS)[1]
            assert program.returncode == 1
            assert "onnection" in said or "not connected" in said
            assert mount_at(str(path)) is None
        finally:
            process.kill()


if __name__ == "__main__":
    trio.run(serve, sys.argv[1])

"""What a mount costs where very much is looked at: the kernel keeps only so many names, and closing costs nothing."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import trio

from pfsfuse.client.daemon import Daemon as Connection
from pfsfuse.content.content import open_content
from pfsfuse.job.jobview import JobView
from pfsfuse.kernel.serve import mounted
from tests.pfsfuse.job.test_job import job_inputs, shown
from tests.pfsfuse.repository.test_repository import put_many
from tests.support.daemons import Daemon
from tests.support.mounts import mounting

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse")

WAIT_SECONDS = 60
MOST = 1000
FILES = {f"/d{number % 20:02}/{number:05}": b"%d" % number for number in range(6000)}


def walk(address: str, mountpoint: str, datum: list[dict[str, Any]]) -> list[int]:
    """Walk three times over a mount that lets the kernel know `MOST` inodes; returns how many files were found each
    time, and in the end how many inodes the kernel knows at most.
    """

    async def run() -> list[int]:
        connection = Connection(address)
        async with open_content(connection) as content:
            view = JobView(content)
            view.most_inodes = MOST
            await view.show(job_inputs(datum))
            async with mounted(view, mountpoint, options={"ro", "subtype=pfs", "fsname=pfs:job"}):
                script = 'cd "$1/in/d19" && for _ in 1 2 3; do find "$1" -type f -size -9 | wc -l; done && /bin/pwd'
                command = ["sh", "-c", script, "sh", mountpoint]
                done = await trio.run_process(command, capture_stdout=True)
                *counts, where = done.stdout.decode().split()
                assert where == f"{mountpoint}/in/d19"
                with trio.fail_after(WAIT_SECONDS / 2):
                    while len(view.inodes) > MOST:
                        await trio.sleep(0.01)
                return [*map(int, counts), len(view.inodes)]
        connection.close()

    return trio.run(run)


def test_a_walk_over_many_files_leaves_few_of_them_in_memory(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    daemon.create_repo("r")
    at = put_many(daemon, "r", FILES)
    (tmp_path / "mnt").mkdir()
    process = subprocess.run(
        [sys.executable, "-m", "tests.pfsfuse.content.test_memory"],
        input=json.dumps([daemon.address, str(tmp_path / "mnt"), shown(daemon, at, "/")]),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    *found, known = json.loads(process.stdout)
    assert found == [len(FILES)] * 3
    assert known <= MOST


def test_closing_a_file_that_was_read_makes_no_request(
    daemon: Daemon, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.create_repo("r")
    daemon.commit_files("r", {"/f": b"+"})
    with mounting(daemon, tmp_path / "mnt", "--debug") as opened:
        assert opened.run("cat", "r/master/f") == b"+"
        os.mkdir(opened.path / "r/open")
        assert "FLUSH" not in capfd.readouterr().err
        (opened.path / "r/open/f").write_bytes(b"-")
        assert "FLUSH" in capfd.readouterr().err
        assert opened.run("cat", "r/open/f") == b"-"
        assert "FLUSH" not in capfd.readouterr().err


if __name__ == "__main__":
    sys.stdout.write(json.dumps(walk(*json.load(sys.stdin))))

"""Large files of /pfs/out are handed over to the daemon, and become what their bytes would."""

from __future__ import annotations

import os
import pathlib
import random

from google.protobuf.empty_pb2 import Empty

from pfsfuse.client.handing import HandedOutput, Handing
from ppsd.worker import output
from tests.support.daemons import Daemon

MiB = 1 << 20


def test_handed_and_sent_output_are_one_tree(daemon: Daemon, tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    source = random.Random(1)
    for number in range(20):
        (out / f"large-{number:02d}").write_bytes(source.randbytes(2 * MiB + number))
    (out / "small").write_bytes(b"small")
    with (out / "sparse").open("wb") as sparse:
        sparse.write(source.randbytes(MiB))
        sparse.seek(30 * MiB)
        sparse.write(source.randbytes(MiB))
    handing = Handing()
    handing.directory = daemon.store.Describe(Empty()).handing
    with HandedOutput(handing) as handed:
        given = daemon.store.PutTree(output.requests("handed", str(out), lambda _: None, handed=handed))
    sent = daemon.store.PutTree(output.requests("sent", str(out), lambda _: None))
    assert given.root == sent.root
    assert (given.files, given.bytes_written) == (22, sent.bytes_written)
    assert "a file was handed over" in daemon.log()
    assert daemon.process is not None
    held = pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir()
    assert not [each for each in held if each.exists() and os.readlink(each).startswith(str(out))]

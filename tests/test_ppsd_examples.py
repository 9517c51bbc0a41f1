"""The examples at work, on real text and real pictures."""

from __future__ import annotations

import collections
import pathlib
import re
import sys

import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.daemons import Daemon, commit
from tests.pipelines import flush, jobs

TOOLS = pathlib.Path(__file__).parents[1] / "tools"
EXAMPLES = TOOLS / "examples"


def create(daemon: Daemon, spec: pathlib.Path) -> None:
    """Create an example's pipelines, with this Python for the image's and the checkout for its files."""
    text = spec.read_text().replace('"python3"', f'"{sys.executable}"').replace("/edges.py", str(TOOLS / "edges.py"))
    daemon.pachctl("create-pipeline", stdin=text.encode())


def counted(*texts: bytes) -> list[str]:
    words = collections.Counter(word for text in texts for word in re.findall(r"[a-z]+", text.decode().lower()))
    return [f"{count} {word}" for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0]))]


def test_words_are_counted(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("texts")
    create(daemon, EXAMPLES / "wordcount/count.json")
    create(daemon, EXAMPLES / "wordcount/total.json")
    texts = {name: (TOOLS.parent / name).read_bytes() for name in ("LICENSE", "ARCHITECTURE.md")}
    flush(daemon, daemon.commit_files("texts", texts))
    assert daemon.get(commit("total", "master"), "words").decode().splitlines() == counted(*texts.values())
    assert len(daemon.get(commit("count", "master"), "the").splitlines()) == 2

    more = (TOOLS.parent / "README.md").read_bytes()
    again = daemon.start_commit("texts")
    daemon.put(again, "README.md", more)
    daemon.pfs.DeleteFile(pfs_pb2.DeleteFileRequest(file=pfs_pb2.File(commit=again, path="LICENSE")))
    daemon.finish_commit(again)
    flush(daemon, again)
    words = daemon.get(commit("total", "master"), "words").decode().splitlines()
    assert words == counted(texts["ARCHITECTURE.md"], more)
    assert [(job.data_processed, job.data_skipped) for job in jobs(daemon, "count")] == [(2, 0), (1, 1)]


def test_a_montage_joins_pictures_and_their_edges(pipeline_daemon: Daemon) -> None:
    cv2 = pytest.importorskip("cv2")
    numpy = pytest.importorskip("numpy")
    data = pathlib.Path(pytest.importorskip("skimage").__file__).parent / "data"
    daemon = pipeline_daemon
    daemon.create_repo("images")
    create(daemon, TOOLS / "edges.json")
    create(daemon, EXAMPLES / "montage/montage.json")
    for number, name in enumerate(("coffee.png", "coins.png"), 1):
        given = daemon.commit_files("images", {name: (data / name).read_bytes()})
        made = [info for info in flush(daemon, given) if info.commit.repo.name == "montage"]
        assert len(made) == 1
        assert {one.repo.name for one in made[0].provenance} == {"images", "edges"}
        picture = numpy.frombuffer(daemon.get(made[0].commit, "montage.png"), numpy.uint8)
        assert cv2.imdecode(picture, cv2.IMREAD_COLOR).shape == (256 * number, 512, 3)
    states = [job.state for job in jobs(daemon, "montage")]
    assert states == [pps_pb2.JOB_SUCCESS] * 2


def test_the_fruit_stand_adds_up_its_sales(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("sales")
    create(daemon, EXAMPLES / "fruit_stand/pipelines.json")
    put = ("put-file", "sales", "master", "log", "-c", "--split", "line")
    daemon.pachctl(*put, stdin=b"orange 4\nbanana 2\napple 9\norange 1\n")
    flush(daemon, commit("sales", "master"))
    assert daemon.get(commit("sum", "master"), "orange") == b"5\n"
    daemon.pachctl(*put, stdin=b"apple 1\nkiwi 7\n")
    flush(daemon, commit("sales", "master"))
    totals = {name: daemon.get(commit("sum", "master"), name) for name in daemon.list(commit("sum", "master"))}
    assert totals == {"apple": b"10\n", "banana": b"2\n", "orange": b"5\n"}
    assert [(job.data_processed, job.data_skipped) for job in jobs(daemon, "filter")] == [(4, 0), (2, 4)]
    assert [(job.data_processed, job.data_skipped) for job in jobs(daemon, "sum")] == [(3, 0), (1, 2)]

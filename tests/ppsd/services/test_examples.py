"""The examples at work, on real text and real pictures."""

from __future__ import annotations

import collections
import importlib.util
import json
import pathlib
import random
import re
import struct
import sys
import zlib
from typing import Any

import pytest

from pachproto import pfs_pb2, pps_pb2
from tests.support.daemons import Daemon, commit
from tests.support.pipelines import flush, jobs, logs
from tests.support.places import TOOLS
from tools.demo import DemoError, photographs

EXAMPLES = TOOLS / "examples"


def create(daemon: Daemon, spec: pathlib.Path) -> None:
    """Create an example's pipelines, with this Python for the image's."""
    text = spec.read_text().replace('"python3"', f'"{sys.executable}"')
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


def test_the_tutorials_pipeline_works_as_it_stands(pipeline_daemon: Daemon) -> None:
    written = json.loads((TOOLS / "edges.json").read_text())["transform"]["stdin"]
    assert written == (TOOLS / "edges.py").read_text().splitlines()
    daemon = pipeline_daemon
    daemon.create_repo("images")
    daemon.pachctl("create-pipeline", "-f", str(TOOLS / "edges.json"))
    # A bright square.
    rows = [bytes(3 * 8)] * 2 + [bytes(6) + b"\xff" * 12 + bytes(6)] * 4 + [bytes(3 * 8)] * 2
    given = daemon.commit_files("images", {"square.png": png(8, rows)})
    flush(daemon, given)
    assert daemon.list(commit("edges", "master")) == ["square.png"]
    assert daemon.get(commit("edges", "master"), "square.png").startswith(b"\x89PNG")


@pytest.mark.parametrize("filtered", range(5))
def test_the_tutorials_code_reads_png_alone(filtered: int, tmp_path: pathlib.Path) -> None:
    code = (TOOLS / "edges.py").read_text().replace("import cv2", "raise ImportError")
    scope: dict[str, Any] = {}
    exec(compile(code.replace("/pfs/", f"{tmp_path}/"), "edges.py", "exec"), scope)
    pixels = [[random.Random(f"{y}").randint(0, 255) for _ in range(9)] for y in range(7)]
    data = png(3, [bytes(row) for row in pixels], filtered)
    assert scope["grey_rows"](data, "x") == [[sum(row[at : at + 3]) // 3 for at in (0, 3, 6)] for row in pixels]
    (tmp_path / "x.png").write_bytes(data)
    made = scope["edges_of"](tmp_path / "x.png")
    assert [len(row) for row in scope["grey_rows"](made, "made")] == [3] * 7
    with pytest.raises(SystemExit, match="OpenCV"):
        scope["grey_rows"](b"JFIF", "x.jpg")


def png(width: int, rows: list[bytes], filtered: int = 0) -> bytes:
    """A PNG of red, green and blue, whose rows are written with one of its filters."""
    packed, above = b"", bytes(3 * width)
    for row in rows:
        before, over = bytes(3) + row, bytes(3) + above
        guesses = [
            (0, before[i], above[i], (before[i] + above[i]) // 2, nearest(before[i], above[i], over[i]))[filtered]
            for i in range(len(row))
        ]
        packed += bytes([filtered, *((one - guess) % 256 for one, guess in zip(row, guesses, strict=True))])
        above = row
    made = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    for what, data in ((b"IHDR", header), (b"IDAT", zlib.compress(packed)), (b"IEND", b"")):
        made += struct.pack(">I", len(data)) + what + data + struct.pack(">I", zlib.crc32(what + data))
    return made


def nearest(left: int, up: int, over: int) -> int:
    """Paeth's predictor."""
    return min((left, up, over), key=lambda one: abs(left + up - over - one))


def test_a_montage_joins_pictures_and_their_edges(pipeline_daemon: Daemon) -> None:
    cv2 = pytest.importorskip("cv2")
    numpy = pytest.importorskip("numpy")
    try:
        data = photographs()
    except DemoError as error:
        pytest.skip(str(error))
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


def processed(daemon: Daemon, pipeline: str) -> list[tuple[int, int]]:
    """Datums computed and skipped by each job of a pipeline."""
    return [(job.data_processed, job.data_skipped) for job in jobs(daemon, pipeline)]


def moved(daemon: Daemon, pipeline: str) -> list[tuple[int, int]]:
    """Bytes of file content that each job of a pipeline read and wrote."""
    return [(job.stats.download_bytes, job.stats.upload_bytes) for job in jobs(daemon, pipeline)]


def contents(daemon: Daemon, repo: str, directory: str = "") -> dict[str, bytes]:
    """The files of a directory of a repo's master."""
    at = commit(repo, "master")
    return {path.strip("/"): daemon.get(at, path) for path in daemon.list(at, directory)}


def day(number: int) -> str:
    return f"2017-01-0{number}"


def window(number: int) -> str:
    """The three days from this one on."""
    return f"{day(number)}_to_{day(number + 2)}"


SALES = {f"{day(number)}.txt": b"apple %d\n" % number * 50_000 for number in range(1, 6)}
"""A day's sales: file names and contents."""


def sold(*days: int) -> bytes:
    return b"%d\n" % (50_000 * sum(days))


def put_days(daemon: Daemon, *days: int) -> None:
    """Commit the sales of some days, and wait for what is computed from them."""
    flush(daemon, daemon.commit_files("sales", {f"{day(one)}.txt": SALES[f"{day(one)}.txt"] for one in days}))


def test_days_are_put_into_windows_and_not_a_byte_is_copied(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("sales")
    create(daemon, EXAMPLES / "time_windows/bins.json")
    put_days(daemon, 1, 2, 3)
    assert contents(daemon, "window_totals") == {window(1): sold(1, 2, 3), window(2): sold(2, 3), window(3): sold(3)}
    put_days(daemon, 4)
    assert contents(daemon, "window_totals") == {
        window(1): sold(1, 2, 3),
        window(2): sold(2, 3, 4),
        window(3): sold(3, 4),
        window(4): sold(4),
    }
    assert contents(daemon, "binned_sales", window(2)) == {
        f"{window(2)}/{day(one)}.txt": SALES[f"{day(one)}.txt"] for one in (2, 3, 4)
    }
    assert moved(daemon, "binned_sales") == [(0, 0), (0, 0)]
    assert all(read > 0 and written > 0 for read, written in moved(daemon, "window_totals"))
    assert processed(daemon, "binned_sales") == [(3, 0), (1, 3)]
    assert processed(daemon, "window_totals") == [(3, 0), (3, 1)]  # the first window is what it was


def test_a_window_moves_with_the_newest_day(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("sales")
    create(daemon, EXAMPLES / "time_windows/moving.json")
    for days, newest in (((1, 2), (1, 2)), ((3, 4), (2, 3, 4)), ((5,), (3, 4, 5))):
        put_days(daemon, *days)
        assert contents(daemon, "last_three_days") == {f"{day(one)}.txt": SALES[f"{day(one)}.txt"] for one in newest}
        assert contents(daemon, "recent_total") == {"total": sold(*newest)}
    assert moved(daemon, "last_three_days") == [(0, 0)] * 3


def iris() -> list[tuple[str, str]]:
    """The flowers that scikit-learn brings along: four measures, and the species; every species in turn."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        pytest.skip("scikit-learn is not installed")
    header, *rows = (pathlib.Path(found.origin).parent / "datasets/data/iris.csv").read_text().splitlines()
    species = header.split(",")[2:]
    flowers = [(measures, species[int(kind)]) for measures, _, kind in (row.rpartition(",") for row in rows)]
    return [flower for place in range(50) for flower in flowers[place::50]]


def test_a_model_is_trained_and_applied_and_only_what_changed_is_computed_again(pipeline_daemon: Daemon) -> None:
    flowers = iris()
    daemon = pipeline_daemon
    for repo in ("training", "attributes"):
        daemon.create_repo(repo)
    create(daemon, EXAMPLES / "iris/iris.json")
    known, given = flowers[:90], {"first": flowers[90:120], "second": flowers[120:]}
    measured = {name: "".join(f"{one}\n" for one, _ in some).encode() for name, some in given.items()}
    trained = [f"{measures},{species}\n" for measures, species in known]

    def right(name: str) -> int:
        """How many of the thirty flowers of a file were told right."""
        told = daemon.get(commit("inference", "master"), name).decode().split()
        return sum(ours == species for ours, (_, species) in zip(told, given[name], strict=True))

    daemon.commit_files("attributes", {"first": measured["first"]})
    without_one = "".join(line for line in trained if "virginica" not in line).encode()
    flush(daemon, daemon.commit_files("training", {"flowers.csv": without_one}))
    assert 15 <= right("first") <= 20  # a third of them are of a species that nobody has told it of

    flush(daemon, daemon.commit_files("attributes", {"second": measured["second"]}))
    assert processed(daemon, "model") == [(1, 0)]
    assert processed(daemon, "inference") == [(1, 0), (1, 1)]

    flush(daemon, daemon.commit_files("training", {"more.csv": "".join(trained).encode()}))
    assert processed(daemon, "model") == [(1, 0), (1, 0)]
    assert processed(daemon, "inference") == [(1, 0), (1, 1), (2, 0)]
    assert right("first") >= 27
    assert right("second") >= 27


def test_a_sum_runs_on_and_reads_only_new_numbers(pipeline_daemon: Daemon) -> None:
    daemon = pipeline_daemon
    daemon.create_repo("numbers")
    create(daemon, EXAMPLES / "running_sum/sum.json")
    for lines, total in ((b"1\n2\n30\n", b"33\n"), (b"400\n", b"433\n"), (b"5000\n60000\n", b"65433\n")):
        daemon.pachctl("put-file", "numbers", "master", "list", "-c", "--split", "line", stdin=lines)
        flush(daemon, commit("numbers", "master"))
        assert contents(daemon, "running_sum") == {"sum": total}
    said = [line.message for line in logs(daemon, pipeline=pps_pb2.Pipeline(name="running_sum"))]
    assert said == ["added 3 numbers", "added 1 numbers", "added 2 numbers"]
    assert processed(daemon, "running_sum") == [(1, 0)] * 3

"""pachctl's command line: usage errors, help, a daemon that does not answer, and where put-file puts things."""

from __future__ import annotations

import os
import pathlib
import socket
import subprocess
import sys

import pytest

from pachctl import registry
from pachctl.files import sources
from pachctl.files.sources import Kind, Source
from pfsd.errors import InvalidError
from pfsd.version import VERSION


def pachctl(*args: str, address: str = "127.0.0.1:1", stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pachctl.main", *args],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "ADDRESS": address, "COLUMNS": "80"},
        timeout=60,
        check=False,
    )


def too_wide(text: str) -> list[str]:
    """The lines that a terminal of 80 columns breaks."""
    return [line for line in text.splitlines() if len(line) > 80]


@pytest.fixture
def closed_address() -> str:
    """An address at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",), ("help",), ("-v",)])
def test_the_overview_names_every_command(args: tuple[str, ...]) -> None:
    result = pachctl(*args)
    assert result.returncode == 0
    assert result.stderr == ""
    for name in registry.ENTRIES:
        assert f"\n  {name} " in result.stdout
    assert "ADDRESS" in result.stdout
    assert too_wide(result.stdout) == []


@pytest.mark.parametrize("name", registry.ENTRIES)
def test_every_command_has_help_with_usage_and_an_example(name: str) -> None:
    result = pachctl(name, "--help")
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith(f"usage: pachctl {name}")
    assert "examples:" in result.stdout
    assert f"pachctl {name}" in result.stdout.split("examples:")[1]
    assert "--no-metrics" in result.stdout
    assert too_wide(result.stdout) == []


@pytest.mark.parametrize(
    "name", [entry.name for entry in registry.ENTRIES.values() if entry.module == "terminal.topics"]
)
def test_texts_fit_a_terminal(name: str) -> None:
    assert too_wide(pachctl(name).stdout) == []


@pytest.mark.parametrize(
    "module",
    [
        "pfsdaemon.main",
        "ppsd.main",
        "ppsd.worker.worker",
        "pfsfuse.mount",
        "tools.bench",
        "tools.cluster",
        "tools.image",
    ],
)
def test_help_of_every_program_fits_a_terminal(module: str) -> None:
    environment = {**os.environ, "COLUMNS": "80"}
    result = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=True,
    )
    assert result.stdout.startswith("usage: ")
    assert too_wide(result.stdout) == []


def test_an_unknown_command() -> None:
    result = pachctl("no-such-command")
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        'Error: unknown command "no-such-command" for "pachctl"',
        "Run 'pachctl --help' for usage.",
    ]


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("put-file", "images"), "expected 2 to 3 arguments, got 1"),
        (("put-file", "a", "b", "c", "d"), "expected 2 to 3 arguments, got 4"),
        (("create-repo",), "expected 1 argument, got 0"),
        (("create-repo", "a", "b"), "expected 1 argument, got 2"),
        (("list-repo", "a"), "expected 0 arguments, got 1"),
        (("flush-commit",), "expected at least 1 argument, got 0"),
        (("diff-file", "a", "b", "c", "d"), "expected 3 or 6 arguments, got 4"),
        (("--unknown",), "unknown flag: --unknown"),
        (("list-repo", "--unknown"), "unrecognized arguments: --unknown"),
        (("list-commit", "a", "-n", "x"), "argument -n/--number: 'x' is not an integer of at least 0"),
        (
            ("list-commit", "a", "-n", "9" * 30),
            f"argument -n/--number: '{'9' * 30}' is not an integer of at least 0, or is too large",
        ),
        (("put-file", "a", "b", "-p", "0"), "argument -p/--parallelism: '0' is not an integer of at least 1"),
        (("put-file", "a", "b", "--split", "csv"), "argument --split: invalid choice"),
        (("put-file", "a", "b", "--target-file-bytes", "9"), "--target-file-datums and --target-file-bytes need"),
        (("put-file", "a", "b", "-i", "-", "-f", "-"), "standard input can't be both"),
        (("delete-repo",), "give either the name of a repo or --all"),
        (("delete-repo", "a", "--all"), "give either the name of a repo or --all"),
        (("delete-pipeline",), "give either the name of a pipeline or --all"),
        (("get-file", "a", "b", "c", "-r"), "-r needs a directory to write to"),
        (("get-logs",), "say whose logs"),
        (("subscribe-commit", "a", "b", "--new", "--from", "c"), "--new and --from can't be used together"),
        (("start-commit", "a", "b", "-b", "c"), "the branch is given twice"),
        (("flush-commit", "a"), "'a' names no commit: write it as REPO/COMMIT"),
        (("create-pipeline", "--password", "x"), "--password is for --push-images, which is not given"),
        (("update-pipeline", "-u", "me"), "--username is for --push-images, which is not given"),
    ],
)
def test_bad_usage_is_told_in_a_line_or_two(args: tuple[str, ...], complaint: str) -> None:
    result = pachctl(*args)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(complaint)
    assert len(result.stderr.splitlines()) <= 2


@pytest.mark.parametrize(
    "args",
    [
        ("list-repo",),
        ("-v", "--no-metrics", "list-repo"),
        ("list-repo", "--no-metrics", "-v"),
        ("put-file", "a", "-c", "master", "-o", "x"),
        ("flush-commit", "a/master"),
        ("get-file", "a", "master", "--", "-x"),
        ("list-job",),
    ],
)
def test_a_daemon_that_does_not_answer(closed_address: str, args: tuple[str, ...]) -> None:
    result = pachctl(*args, address=closed_address)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == (
        f"can't reach pfsd at {closed_address}: is it running? (set ADDRESS=host:port to use another)"
    )


def test_the_version_of_the_client_is_told_without_a_daemon(closed_address: str) -> None:
    result = pachctl("version", address=closed_address)
    assert result.returncode == 1
    assert (
        result.stdout
        == f"COMPONENT           VERSION             PFSD\npachctl             1.5.3               {VERSION}\n"
    )
    assert result.stderr.startswith("can't reach pfsd at ")


@pytest.mark.parametrize("address", ["nowhere", "host:", ":30650", "host:0", "http://host:30650", "host:99999"])
def test_an_address_that_is_none(address: str) -> None:
    result = pachctl("list-repo", address=address)
    assert result.returncode == 1
    assert result.stderr == (f"address {address!r} is invalid: write it as HOST:PORT, such as 127.0.0.1:30650\n")


def test_deleting_everything_needs_a_daemon_before_it_asks(closed_address: str) -> None:
    for args in (("delete-all",), ("delete-repo", "--all")):
        result = pachctl(*args, stdin="y\n", address=closed_address)
        assert result.returncode == 1
        assert result.stdout == ""
        assert result.stderr.startswith("can't reach pfsd")


def test_output_that_nobody_reads_ends_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "pachctl.main", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_output_that_has_no_room_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "pachctl.main", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == "writing the output failed: no space left on device\n"


@pytest.mark.parametrize("name", ["repo", "commit", "file", "job", "pipeline"])
def test_topics(name: str) -> None:
    result = pachctl(name)
    assert result.returncode == 0
    assert result.stdout.startswith(f"Docs for {name}s.\n")


def test_sources_that_are_not_there_are_found_before_the_daemon_is_asked(tmp_path: pathlib.Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    plain = tmp_path / "plain"
    plain.write_text("x")
    cases = [
        (["-f", "/does/not/exist"], "open /does/not/exist: no such file or directory"),
        (["-i", "/does/not/exist"], "open /does/not/exist: no such file or directory"),
        (["-f", str(tmp_path)], f"{tmp_path} is a directory: use -r to put what is in it"),
        (["-r", "-f", str(plain)], f"{plain} is not a directory: put it without -r"),
        (["-f", str(pipe)], f"{pipe} can't be put: it is a named pipe"),
        (["-r"], "-r puts directories, not standard input: name one with -f"),
        (["-f", os.fsdecode(b"\xff")], "open \\udcff: no such file or directory"),
    ]
    for args, sentence in cases:
        result = pachctl("put-file", "images", "master", "x", "-c", *args)
        assert (result.returncode, result.stderr) == (1, f"{sentence}\n")


@pytest.mark.parametrize(
    ("texts", "path", "keep_names", "targets"),
    [
        (["a.txt"], "there", False, ["there"]),
        (["-"], "there", False, ["there"]),
        (["clidir/a.txt"], "", False, ["clidir/a.txt"]),
        (["./clidir//a.txt"], "", False, ["clidir/a.txt"]),
        (["clidir/"], "", False, ["clidir"]),
        (["."], "", False, [""]),
        (["/srv/data/a.txt"], "", False, ["a.txt"]),
        (["../data/a.txt"], "", False, ["a.txt"]),
        (["x/../../a.txt"], "", False, ["a.txt"]),
        (["x/../a.txt"], "", False, ["a.txt"]),
        (["a.txt", "d/b.txt"], "there", False, ["there/a.txt", "there/d/b.txt"]),
        (["d/b.txt"], "there", True, ["there/d/b.txt"]),
        (["b.txt"], "there/", True, ["there/b.txt"]),
        (["b.txt"], "/", True, ["/b.txt"]),
        (["http://host/a/b%20c.png?x=1"], "", False, ["a/b c.png"]),
        (["s3://bucket/a/b"], "", False, ["a/b"]),
        (["pfs://host:1/repo/master/a/b", "http://host/c"], "t", False, ["t/a/b", "t/c"]),
        (["pfs:///repo/master/a/b"], "", False, ["a/b"]),
    ],
)
def test_where_sources_land(texts: list[str], path: str, keep_names: bool, targets: list[str]) -> None:
    assert [source.target for source in sources.plan(texts, path, keep_names=keep_names)] == targets


@pytest.mark.parametrize("texts", [["-"], ["a", "-"], ["http://host/"], ["pfs:///repo"], ["http://[host/a"]])
def test_sources_that_have_no_name(texts: list[str]) -> None:
    with pytest.raises(InvalidError):
        sources.plan(texts, "")


def test_sources_for_overlapping_paths_are_put_one_after_the_other() -> None:
    planned = [Source(text, Kind.LOCAL, text) for text in ("a", "b/c", "b/d", "/a/", "a/x", "b", "c")]
    assert [[source.target for source in part] for part in sources.rounds(planned)] == [
        ["a", "b/c", "b/d"],
        ["/a/"],
        ["a/x", "b", "c"],
    ]


def test_a_walk_follows_symlinks_reports_pipes_and_refuses_cycles(tmp_path: pathlib.Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "new\nline ü").write_text("x")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("y")
    (top / "link").symlink_to(tmp_path / "other")
    os.mkfifo(top / "pipe")
    left_out: list[str] = []
    source = Source(str(top), Kind.LOCAL, "t")
    found = {file.target: file.path for file in sources.walk(source, left_out.append)}
    assert found == {
        "t/sub/new\nline ü": f"{top}/sub/new\nline ü",
        "t/link/file": f"{top}/link/file",
    }
    assert left_out == [f"{top}/pipe is left out: it is a named pipe"]

    (top / "sub" / "again").symlink_to(top)
    with pytest.raises(InvalidError, match="leads back to"):
        list(sources.walk(source, left_out.append))

    (top / "sub" / "again").unlink()
    (top / "gone").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError):
        list(sources.walk(source, left_out.append))

    (top / "gone").unlink()
    pathlib.Path(os.fsdecode(bytes(top) + b"/\xff")).write_text("z")
    assert "t/\uf7ff" in {file.target for file in sources.walk(source, left_out.append)}

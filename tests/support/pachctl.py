"""What the tests of pachctl share: what it prints, what a commit has, and a web server."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

from tests.support.daemons import Daemon

CHUNK = 1 << 20


def out(daemon: Daemon, *args: str, stdin: bytes = b"") -> str:
    return daemon.pachctl(*args, stdin=stdin).stdout.decode()


def error(daemon: Daemon, *args: str, stdin: bytes = b"") -> str:
    result = daemon.pachctl(*args, stdin=stdin, check=False)
    assert result.returncode == 1
    text = result.stderr.decode()
    assert "Traceback" not in text
    return text


def found(daemon: Daemon, repo: str, commit: str = "master") -> dict[str, int]:
    """The files of a commit with their sizes."""
    decoder = json.JSONDecoder()
    text = out(daemon, "glob-file", repo, commit, "**", "--raw", "-R")
    sizes = {}
    while text.strip():
        info, end = decoder.raw_decode(text.lstrip())
        text = text.lstrip()[end:]
        if info["fileType"] == "FILE":
            sizes[info["file"]["path"]] = int(info.get("sizeBytes", 0))
    return sizes


def commit_count(daemon: Daemon, repo: str) -> int:
    lines = out(daemon, "list-commit", repo).splitlines()
    return sum(line.startswith(f"{repo} ") for line in lines)


@contextlib.contextmanager
def served(directory: pathlib.Path) -> Iterator[str]:
    """The URL of a web server for a directory."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(directory))  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()

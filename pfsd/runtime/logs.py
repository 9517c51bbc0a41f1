"""The programs' logs on standard error: lines for people, or JSON for collectors, with the id of the request.

What is secret in URLs is hidden in both.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from datetime import UTC, datetime

from pfsd.redact import redacted
from pfsd.runtime.requestids import request_id

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Of a line for people."""

FORMATS = ("text", "json")
VARIABLE = "PFS_LOG_FORMAT"
"""The environment variable that says which; programs that are started by one get it from there."""


class TextFormatter(logging.Formatter):
    """Lines for people, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = redacted(super().format(record))
        current = request_id.get()
        return f"{line} (request {current})" if current else line


class JsonFormatter(logging.Formatter):
    """A JSON object in a line: time (RFC 3339, UTC), level, logger, message; request and error where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(record.getMessage()),
        }
        if current := request_id.get():
            said["request"] = current
        if record.exc_info:
            said["error"] = redacted(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


def add_log_options(parser: argparse.ArgumentParser) -> None:
    """The options of a program that serves: how much it logs, and how."""
    parser.add_argument("-v", "--verbose", action="store_true", help="log what happens to stderr")
    parser.add_argument(
        "--log-format",
        choices=FORMATS,
        default="",
        help=f"lines for people, or JSON (default: what ${VARIABLE} says, else text)",
    )


def log_as_asked(args: argparse.Namespace) -> None:
    """Have this program log as those options say, and those that it starts in the same format."""
    if args.log_format:
        os.environ[VARIABLE] = args.log_format
    log_to_stderr(logging.INFO if args.verbose else logging.WARNING)


def log_to_stderr(level: int) -> None:
    """Have this program log on standard error, in the format that the environment names."""
    is_json = os.environ.get(VARIABLE) == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if is_json else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler])


def notice(program: str, text: str) -> None:
    """Say a sentence on standard error to whoever has started the program."""
    if os.environ.get(VARIABLE) == "json":
        logging.getLogger(program).warning("%s", text)
    else:
        print(f"{program}: {text}", file=sys.stderr, flush=True)  # noqa: T201

"""Small texts that a command reads from a file, a URL or standard input: specs, and lists of files."""

from __future__ import annotations

import logging
import sys
import threading

from pfsd.errors import InvalidError

STDIN = "-"

MAX_BYTES = 64 << 20
"""Longest text accepted."""

_logger = logging.getLogger(__name__)


def read_text(source: str) -> str:
    """The text that `source` names: `-` for standard input, an http(s) URL, or a local file.

    Raises OSError for a file that can't be read, what `pfsd.fetching.web.blocks` raises for a URL, InvalidError for no
    text.
    """
    if source == STDIN:
        data = sys.stdin.buffer.read(MAX_BYTES + 1)
    elif source.startswith(("http://", "https://")):
        data = _get(source)
    else:
        with open(source, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    name = "standard input" if source == STDIN else source
    if len(data) > MAX_BYTES:
        raise InvalidError(f"{name} is longer than {MAX_BYTES >> 20} MiB: lists and specifications have to be shorter")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidError(f"{name} is not UTF-8 text: byte {error.start} can't be read") from error


def _get(url: str) -> bytes:
    from pfsd.fetching import web  # it takes longer to load than most commands to run

    _logger.info("fetching %s", url)
    data = bytearray()
    for block in web.blocks(url, threading.Event()):
        data += block
        if len(data) > MAX_BYTES:
            break
    return bytes(data)

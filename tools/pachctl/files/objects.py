"""The commands about objects and tags."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from google.protobuf.wrappers_pb2 import BytesValue

from pachctl.terminal.command import Arguments, Command
from pachctl.terminal.connection import connect
from pachproto import pfs_pb2


def get_object(arguments: Arguments) -> None:
    """Writes an object to standard output."""
    (hash,) = arguments.operands
    with connect() as daemon:
        _write(daemon.objects.GetObject(pfs_pb2.Object(hash=hash)))


def get_tag(arguments: Arguments) -> None:
    """Writes the object that a tag names to standard output."""
    (name,) = arguments.operands
    with connect() as daemon:
        _write(daemon.objects.GetTag(pfs_pb2.Tag(name=name)))


def _write(parts: Iterable[BytesValue]) -> None:
    for part in parts:
        sys.stdout.buffer.write(part.value)
    sys.stdout.buffer.flush()


COMMANDS = {
    "get-object": Command(
        run=get_object,
        operands=("HASH",),
        description="Return the contents of an object; inspect-file --raw names the objects of a file.",
        examples=("pachctl get-object \\\n      e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931",),
    ),
    "get-tag": Command(
        run=get_tag,
        operands=("TAG",),
        description="Return the contents of the object that a tag names.",
        examples=("pachctl get-tag latest-model",),
    ),
}

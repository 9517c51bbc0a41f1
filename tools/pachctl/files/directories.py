"""Directories that are put: each with what is kept of it, where something in it is put."""

from __future__ import annotations

from typing import Any

from pachctl.terminal.parallel import Calls
from pachproto import edits_pb2, pfs_pb2

STEPS = 1000
STEP_BYTES = 1 << 20
"""A request is sent once it has as much."""


class Directories:
    """Makes directories in one open commit, many at a time, as a walk finds them and what is put in them."""

    def __init__(self, edits: Any, commit: pfs_pb2.Commit, calls: Calls) -> None:
        """`edits` is the daemon's; `calls` gets every call under way."""
        self._edits = edits
        self._commit = commit
        self._calls = calls
        self._waiting: list[tuple[str, bytes]] = []
        """Directories in each other, in which nothing was put yet."""
        self._steps: list[edits_pb2.EditStep] = []
        self._bytes = 0

    def add(self, target: str, attributes: bytes) -> None:
        """A directory that is to be made, if something in it is put. The root of the commit stays as it is."""
        self._leave(target)
        if target.strip("/"):
            self._waiting.append((target, attributes))

    def hold(self, target: str) -> None:
        """What is put at a path, so that the directories above it are made; raises grpc.RpcError."""
        self._leave(target)
        waiting, self._waiting = self._waiting, []
        for directory, attributes in waiting:
            self._make(directory, attributes)

    def _leave(self, target: str) -> None:
        """Forget the directories that `target` is not below."""
        while self._waiting and not target.startswith(self._waiting[-1][0].rstrip("/") + "/"):
            self._waiting.pop()

    def _make(self, target: str, attributes: bytes) -> None:
        self._steps.append(edits_pb2.EditStep(make_directories=target))
        step = edits_pb2.SetAttributesStep(path=target, attributes=attributes)
        self._steps.append(edits_pb2.EditStep(set_attributes=step))
        self._bytes += 2 * len(target) + len(attributes)
        if len(self._steps) >= STEPS or self._bytes >= STEP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what waits; raises grpc.RpcError."""
        if not self._steps or self._calls.stopped:
            return
        request = edits_pb2.EditRequest(commit=self._commit, steps=self._steps)
        self._steps, self._bytes = [], 0
        call = self._calls.add(self._edits.Edit.future(request))
        try:
            call.result()
        finally:
            self._calls.discard(call)

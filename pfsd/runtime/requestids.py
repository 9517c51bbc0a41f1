"""The id of the request that something is done for: in logs, and from process to process as metadata of calls.

A call has the id that its client gives, or a new one. What a pipeline does for a job goes by the job's id.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import grpc

KEY = "x-request-id"
"""The key of the metadata."""

_VALID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Metadata = tuple[tuple[str, str], ...]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""That of what is being done; empty for what nobody asked for."""


@contextmanager
def on_behalf_of(what: str) -> Iterator[None]:
    """What the block does goes by this id."""
    token = request_id.set(what)
    try:
        yield
    finally:
        request_id.reset(token)


def take_id(metadata: Sequence[tuple[str, Any]] | None) -> str:
    """The id of a call that came with this metadata."""
    given = next((value for key, value in metadata or () if key == KEY), "")
    return given if isinstance(given, str) and _VALID.fullmatch(given) else secrets.token_hex(8)


def with_id(metadata: Metadata) -> Metadata:
    """The metadata of a call, with the id of what it is made for, if there is one."""
    current = request_id.get()
    return (*metadata, (KEY, current)) if current else metadata


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Telling(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[type-arg]
    grpc.StreamStreamClientInterceptor,  # type: ignore[type-arg]
):
    """Gives each call of a channel the id of what it is made for."""

    def _told(self, go_on: Callable[[Any, Any], Any], details: Any, request: Any) -> Any:
        if request_id.get():
            details = _Details(
                details.method,
                details.timeout,
                with_id(tuple(details.metadata or ())),
                details.credentials,
                details.wait_for_ready,
                details.compression,
            )
        return go_on(details, request)

    intercept_unary_unary = intercept_unary_stream = _told  # type: ignore[assignment]
    intercept_stream_unary = intercept_stream_stream = _told  # type: ignore[assignment]


def telling(channel: grpc.Channel) -> grpc.Channel:
    """The channel, of which each call tells the id of what it is made for."""
    return grpc.intercept_channel(channel, _Telling())

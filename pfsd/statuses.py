"""Errors as gRPC statuses, and back. The one place that maps the two."""

from __future__ import annotations

import grpc

from pfsd import errors

SAID_KEY = "pfsd-said"
"""In the trailing metadata where pfsd itself says UNAVAILABLE, of something behind it: grpc says so of pfsd."""

_CODES: dict[type[errors.PfsError], grpc.StatusCode] = {
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.StateError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.FullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CorruptError: grpc.StatusCode.DATA_LOSS,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.FormatError: grpc.StatusCode.FAILED_PRECONDITION,
}


def code(error: errors.PfsError) -> grpc.StatusCode:
    """The status code of an error."""
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    return grpc.StatusCode.FAILED_PRECONDITION


def from_status(status: grpc.StatusCode, details: str) -> errors.PfsError:
    """The error that a server meant by a status."""
    for kind, mapped in _CODES.items():
        if mapped is status:
            return kind(details)
    return errors.UnavailableError(f"the call failed ({status.name}): {details}")


def is_said(error: grpc.RpcError) -> bool:
    """Whether a call's failure is what pfsd answered, not that it did not answer."""
    return any(pair.key == SAID_KEY for pair in error.trailing_metadata() or ())

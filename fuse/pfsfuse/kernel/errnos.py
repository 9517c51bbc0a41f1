"""The one place that maps errors to errno values."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from pyfuse3 import FUSEError

from pfsd import errors

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class ClosedError(errors.StateError):
    """The commit is finished or deleted: nothing can be written to it."""


class LocalError(errors.PfsError):
    """The operating system of this machine refuses something: its disk is full, too many files are open."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class TooLargeError(errors.InvalidError):
    """A file can't get as large as that."""


@contextmanager
def locally(what: str) -> Iterator[None]:
    """Raise what the operating system refuses in the block as LocalError: `what` is what was to be done."""
    try:
        yield
    except OSError as error:
        raise LocalError(f"{what}: {error.strerror or error}", error.errno or errno.EIO) from error


_ERRNO: list[tuple[type[errors.PfsError], int]] = [
    (ClosedError, errno.EROFS),
    (TooLargeError, errno.EFBIG),
    (errors.NotFoundError, errno.ENOENT),
    (errors.AlreadyExistsError, errno.EEXIST),
    (errors.InvalidError, errno.EINVAL),
    (errors.IsADirectoryPfsError, errno.EISDIR),
    (errors.NotADirectoryPfsError, errno.ENOTDIR),
    (errors.NotEmptyError, errno.ENOTEMPTY),
    (errors.DiskError, errno.EIO),
    (errors.StateError, errno.EPERM),
    (errors.FullError, errno.ENOSPC),
    (errors.CorruptError, errno.EIO),
    (errors.UnavailableError, errno.ETIMEDOUT),
    (errors.FormatError, errno.EPROTO),
]


def errno_of(error: errors.PfsError) -> int:
    """The errno that a program sees for `error`."""
    if isinstance(error, LocalError):
        return error.number
    return next((number for kind, number in _ERRNO if isinstance(error, kind)), errno.EIO)


def answers_nothing(handler: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, Coroutine[Any, Any, None]]:
    """Wrap a handler of a request that takes no answer, or whose answer nobody reads: a defect is logged."""

    @functools.wraps(handler)
    async def quiet(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await handler(*args, **kwargs)
        except Exception:
            log.exception("%s failed", handler.__name__)

    return quiet


def answers(handler: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap a FUSE request handler so that only FUSEError leaves it.

    A PfsError becomes its errno. Any other exception is a defect: it is logged with its traceback and
    answered with EIO, because letting it out would end the whole mount.
    """

    @functools.wraps(handler)
    async def answer(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except errors.PfsError as error:
            number = errno_of(error)
            if number != errno.ENOENT:
                log.warning("%s: %s", handler.__name__, error)
            raise FUSEError(number) from error
        except OSError as error:
            log.warning("%s: %s", handler.__name__, error)
            raise FUSEError(error.errno or errno.EIO) from error
        except Exception as error:
            log.exception("%s failed", handler.__name__)
            raise FUSEError(errno.EIO) from error

    return answer

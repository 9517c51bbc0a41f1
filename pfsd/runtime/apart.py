"""Background tasks that fail alone: an error in one is logged and reported, and the tasks beside it go on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from pfsd.errors import PfsError, UnavailableError, leaves

log = logging.getLogger(__name__)


async def apart(
    what: str, told: Callable[[str], None] | None, function: Callable[..., Awaitable[object]], *args: object
) -> None:
    """Run `function(*args)` to its end, as a task of a nursery. What it raises is logged, and `told` why it has ended.

    `what` names it there. Cancelling goes through.
    """
    try:
        await function(*args)
    except Exception as error:  # noqa: BLE001 (the one place where a task's defect ends)
        reason = reason_of(error, what)
        if told is not None:
            told(reason)


def reason_of(error: Exception, what: str) -> str:
    """Why `what` has failed, fit for a user; a defect is logged with where it is."""
    known = known_error(error)
    if known is not None:
        log.warning("%s has failed: %s", what, known)
        return str(known)
    log.error("%s has met a defect", what, exc_info=error)
    cause = next(leaf for leaf in leaves(error) if not isinstance(leaf, PfsError))
    return f"a defect: {type(cause).__name__}: {cause}; see the log"


def known_error(error: Exception) -> PfsError | None:
    """The error that this is, or the most telling of a group of nothing else; None for a defect.

    That something does not answer comes first: all else may follow from it.
    """
    found = [leaf for leaf in leaves(error) if isinstance(leaf, PfsError)]
    if len(found) < len(leaves(error)):
        return None
    return next((one for one in found if isinstance(one, UnavailableError)), found[0])

"""The errors that a user can meet.

Every message is one sentence that names the thing and, where there is one, the way out. `pfsd.statuses`
maps the classes to gRPC status codes, `pfsfuse.kernel.errnos` to errno values; nothing else does.
"""

from __future__ import annotations

from pfsd.redact import redacted


class PfsError(Exception):
    """A failure that is not a defect: its text is fit for a user, and shows no secret of a URL in it."""

    def __str__(self) -> str:
        return redacted(super().__str__())


class NotFoundError(PfsError):
    """A repo, commit, branch, file, object, tag, pipeline or job that is not there."""


class AlreadyExistsError(PfsError):
    """A name that is taken."""


class InvalidError(PfsError):
    """An argument that can never be right, whatever the state of the store."""


class StateError(PfsError):
    """A call that the present state forbids: a finished commit, an open parent, a repo in use."""


class IsADirectoryPfsError(StateError):
    """A file was wanted and the path is a directory."""


class NotADirectoryPfsError(StateError):
    """A directory was wanted and the path, or a part of it, is a file."""


class NotEmptyError(StateError):
    """A directory was to go and still holds something."""


class DiskError(StateError):
    """The disk under the root failed: nothing is written before somebody has looked after it and started anew."""


class SourceError(StateError):
    """What a client asked to be fetched can't be had from where it said.

    Not UnavailableError: that would have clients of 1.5 repeat the call for ever.
    """


class FullError(PfsError):
    """The disk or a limit has no room left; what was there before is intact."""


class BusyError(PfsError):
    """One client, or all together, have more calls under way than are taken at a time."""


class CorruptError(PfsError):
    """Stored data is missing or does not match its hash."""


class UnavailableError(PfsError):
    """Something outside (an object store, a URL, the daemon) does not answer."""

    def __init__(self, *arguments: object, retry_after: float = 0.0) -> None:
        super().__init__(*arguments)
        self.retry_after = retry_after
        """For how many seconds it asks to be left alone."""


class RefusedError(UnavailableError):
    """Something outside answers, and says no: trying again is of no use before settings or rights change."""


class FormatError(PfsError):
    """A root that was written by a newer version, or that is not one."""


def shown(text: str, most: int = 80) -> str:
    """A text as a sentence quotes it, cut where it is long."""
    return repr(text) if len(text) <= most else f"{text[:most]!r}... ({len(text)} characters)"


def leaves(group: BaseException) -> list[BaseException]:
    """The errors in a group, and in the groups in it."""
    if not isinstance(group, BaseExceptionGroup):
        return [group]
    return [leaf for error in group.exceptions for leaf in leaves(error)]

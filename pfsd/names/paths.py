"""Names of repos and branches, and paths inside a commit.

Inside the store a path is a tuple of component names, the root is the empty tuple. Text comes in through
`parse`, which applies the rules of the API: leading, trailing and doubled slashes and `.` fall away, `a/..` too, and
only what leads out of the root is refused.
"""

from __future__ import annotations

import re

from pfsd.errors import InvalidError
from pfsd.names import ancestry

Path = tuple[str, ...]

MAX_NAME_BYTES = 4096
"""Longest path component. Mounts show those alone that the kernel takes (`pfsfuse.kernel.inodes.SHOWN_NAME_BYTES`)."""

MAX_DEPTH = 1024
"""Most components in a path."""

MAX_PATH_BYTES = 1 << 16
"""Longest path. Each directory above a staged file has a row with its own path: together MAX_DEPTH times as much."""

MAX_REPO_BYTES = 255
"""Longest name of a repo, which is a directory below mounts."""

_SHOWN = 80
"""Characters of a wrong path that an error shows."""

_REPO_NAME = re.compile(r"[A-Za-z0-9_-]+")
_COMMIT_ID = re.compile(r"[0-9a-f]{32}")


def check_repo_name(name: str) -> str:
    """`name` itself, or InvalidError."""
    if not name:
        raise InvalidError("a repo needs a name")
    if not _REPO_NAME.fullmatch(name):
        raise InvalidError(f"repo name {name[:_SHOWN]!r} is invalid: use only ASCII letters, digits, '_' and '-'")
    if len(name) > MAX_REPO_BYTES:
        raise InvalidError(f"repo name {name[:_SHOWN]}... is invalid: it is longer than {MAX_REPO_BYTES} bytes")
    return name


def check_branch_name(name: str) -> str:
    """`name` itself, or InvalidError."""
    if not name:
        raise InvalidError("a branch needs a name")
    if "/" in name or "\0" in name:
        raise InvalidError(f"branch name {name!r} is invalid: it may not hold a slash or a NUL byte")
    if is_commit_id(name):
        raise InvalidError(f"branch name {name} has the form of a commit id: use another")
    if ancestry.parse_ancestor(ancestry.check_length(name)) is not None:
        shown = ancestry.shortened(name)
        raise InvalidError(
            f"branch name {shown} stands for a commit before another: use one without ^ or ~N at its end"
        )
    return name


def is_commit_id(text: str) -> bool:
    """Whether `text` has the form of a commit id: 32 hexadecimal digits."""
    return _COMMIT_ID.fullmatch(text) is not None


def clean(text: str) -> tuple[str, ...] | None:
    """The components of `text` without empty ones, `.` and `..`, which goes back one; None where it leaves the root."""
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return tuple(parts)


def parse(text: str) -> Path:
    """The components of `text`; raises InvalidError for what can never name a file or directory."""
    if len(text) > MAX_PATH_BYTES // 4 and len(text.encode()) > MAX_PATH_BYTES:
        raise InvalidError(f"path {text[:_SHOWN]!r}... is invalid: it is longer than {MAX_PATH_BYTES} bytes")
    if "\0" in text:
        raise InvalidError(f"path {text!r} is invalid: it holds a NUL byte")
    parts = clean(text)
    if parts is None:
        raise InvalidError(f"path {text!r} is invalid: '..' leads out of the root")
    if len(parts) > MAX_DEPTH:
        raise InvalidError(f"path {text[:_SHOWN]!r}... is invalid: it has more than {MAX_DEPTH} components")
    for part in parts:
        if len(part) > MAX_NAME_BYTES // 4 and len(part.encode()) > MAX_NAME_BYTES:
            raise InvalidError(f"name {part[:_SHOWN]!r}... is invalid: it is longer than {MAX_NAME_BYTES} bytes")
    return parts


def parse_file(text: str) -> Path:
    """Like `parse`, but refuses the root, which can't be a file."""
    parts = parse(text)
    if not parts:
        raise InvalidError(f"path {text!r} is invalid: it names no file")
    return parts


def join(path: Path) -> str:
    """The absolute text of `path`: '/' for the root."""
    return "/" + "/".join(path)

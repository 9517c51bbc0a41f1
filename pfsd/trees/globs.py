"""Glob patterns over the paths of a commit.

A pattern is rooted (`*` is `/*`) and cleaned like a path; `/` and the empty pattern give the root. A component
matches as in a shell without crossing `/`: `*`, `?`, `[abc]`, `[a-z]`, `[^x]` or `[!x]`, and a backslash takes the next
character as it is. `{a,b}` stands for either alternative, which may hold slashes; braces without a comma are ordinary
characters. `**` is `*`, as in Pachyderm 1.5: one component. Only where a caller asks for recursion does it stand for
any number of components (as the last one, for at least one).

Compiling takes time that grows with what a pattern's braces stand for, which is bounded, and matching a name with that
times the name, whatever the pattern (`pfsd._scan`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pfsd import _scan
from pfsd.errors import InvalidError
from pfsd.names.paths import Path, clean
from pfsd.trees import dirs, tree
from pfsd.trees.entries import DirEntry, Entry
from pfsd.trees.tree import NodeReader

MAX_LENGTH = 1 << 14
"""Most characters of a pattern."""

MAX_ALTERNATIVES = 1024
"""Most patterns that the braces of one may stand for."""

MAX_EXPANDED = 1 << 16
"""Most characters of all those patterns together."""


@dataclass(frozen=True, slots=True)
class _Component:
    """One component of a pattern."""

    literal: str | None
    """The only name that matches, where there is just one."""
    prefix: str
    """What every matching name begins with."""
    program: bytes
    """For `_scan.match_name`."""
    deep: bool = False
    """Whether it is a `**` that stands for any number of components."""

    def matches(self, name: str) -> bool:
        return self.deep or _scan.match_name(self.program, name)


_State = tuple[int, int]
"""An alternative of a pattern, and how many of its components are matched."""


class Pattern:
    """A compiled pattern."""

    def __init__(self, text: str, alternatives: list[tuple[_Component, ...]]) -> None:
        self.text = text
        self._alternatives = alternatives

    def walk(self, nodes: NodeReader, top: DirEntry) -> Iterator[tuple[Path, Entry]]:
        """The entries below `top` that match, each once, in path order; reads only what can match."""
        states = self._close({(i, 0) for i in range(len(self._alternatives))})
        if self._accepts(states):
            yield (), top
        below: list[tuple[Path, Iterator[tuple[str, Entry]], frozenset[_State]]]
        below = [((), self._candidates(nodes, top, states), states)]  # not recursion: directories may lie deep
        while below:
            path, candidates, states = below[-1]
            found = next(candidates, None)
            if found is None:
                below.pop()
                continue
            name, entry = found
            reached = self._step(states, name)
            here = (*path, name)
            if self._accepts(reached):
                yield here, entry
            if isinstance(entry, DirEntry) and reached:
                below.append((here, self._candidates(nodes, entry, reached), reached))

    def changes(
        self, nodes: NodeReader, old: DirEntry, new: DirEntry
    ) -> Iterator[tuple[Path, Entry | None, Entry | None]]:
        """What `walk` would find differently below two directories, in path order: paths, each with the old and the
        new entry (None: nothing matches there). Reads only what differs and can match.
        """
        states = self._close({(i, 0) for i in range(len(self._alternatives))})
        if self._accepts(states) and old != new:
            yield (), old, new
        below: list[tuple[Path, Iterator[tuple[str, Entry | None, Entry | None]], frozenset[_State]]]
        below = [((), self._changed(nodes, old, new, states), states)]
        while below:
            path, candidates, states = below[-1]
            found = next(candidates, None)
            if found is None:
                below.pop()
                continue
            name, before, after = found
            reached = self._step(states, name)
            here = (*path, name)
            if self._accepts(reached):
                yield here, before, after
            if reached:
                below.append((here, self._changed(nodes, before, after, reached), reached))

    def matches(self, path: Path) -> bool:
        """Whether the pattern matches a path."""
        states = self._close({(i, 0) for i in range(len(self._alternatives))})
        for name in path:
            states = self._step(states, name)
        return self._accepts(states)

    def _candidates(
        self, nodes: NodeReader, directory: DirEntry, states: frozenset[_State]
    ) -> Iterator[tuple[str, Entry]]:
        """The children of a directory that may match, in order."""
        return _candidates(nodes, directory, self._wanted(states))

    def _changed(
        self, nodes: NodeReader, old: Entry | None, new: Entry | None, states: frozenset[_State]
    ) -> Iterator[tuple[str, Entry | None, Entry | None]]:
        """The children of two entries that differ and may match, in order."""
        before, after = (entry.root if isinstance(entry, DirEntry) else tree.EMPTY for entry in (old, new))
        return iter(()) if before == after else _changed_candidates(nodes, before, after, self._wanted(states))

    def _wanted(self, states: frozenset[_State]) -> list[_Component]:
        return [self._alternatives[i][at] for i, at in states if at < len(self._alternatives[i])]

    def _step(self, states: frozenset[_State], name: str) -> frozenset[_State]:
        reached = set()
        for i, at in states:
            parts = self._alternatives[i]
            if at < len(parts) and parts[at].matches(name):
                reached.add((i, at + 1))
                if parts[at].deep:
                    reached.add((i, at))
        return self._close(reached)

    def _close(self, states: set[_State]) -> frozenset[_State]:
        """The states with those reached by letting a `**` that is not the last component match nothing."""
        todo = list(states)
        while todo:
            i, at = todo.pop()
            parts = self._alternatives[i]
            if at + 1 < len(parts) and parts[at].deep and (i, at + 1) not in states:
                states.add((i, at + 1))
                todo.append((i, at + 1))
        return frozenset(states)

    def _accepts(self, states: frozenset[_State]) -> bool:
        return any(at == len(self._alternatives[i]) for i, at in states)


def _candidates(nodes: NodeReader, directory: DirEntry, wanted: list[_Component]) -> Iterator[tuple[str, Entry]]:
    """The children that one of the components may match, in order."""
    literals = {part.literal for part in wanted if part.literal is not None}
    if all(part.literal is not None for part in wanted):
        for name in sorted(literals, key=str.encode):
            entry = dirs.child(nodes, directory, name)
            if entry is not None:
                yield name, entry
        return
    prefix = wanted[0].prefix if len({part.prefix for part in wanted}) == 1 else ""
    for name, entry in dirs.children(nodes, directory, prefix):
        if not name.startswith(prefix):
            return
        yield name, entry


def _changed_candidates(
    nodes: NodeReader, old: bytes, new: bytes, wanted: list[_Component]
) -> Iterator[tuple[str, Entry | None, Entry | None]]:
    """The children that differ, and that one of the components may match, in order."""
    if all(part.literal is not None for part in wanted):
        for name in sorted({part.literal for part in wanted if part.literal is not None}, key=str.encode):
            before, after = (dirs.child(nodes, DirEntry(root), name) for root in (old, new))
            if before != after:
                yield name, before, after
        return
    for name, before, after in dirs.changes(nodes, old, new):
        if any(name.startswith(part.prefix) for part in wanted):
            yield name, before, after


def compile(text: str, *, recursive: bool = False) -> Pattern:
    """The pattern of this text; with `recursive`, `**` stands for any number of components.

    Raises InvalidError when it is malformed, or when it or what it stands for is too long.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidError(f"glob pattern {text[:_SHOWN]!r}... is invalid: it has more than {MAX_LENGTH} characters")
    if "\0" in text:
        raise _invalid(text, "invalid: it holds a NUL byte")
    known: dict[str, _Component] = {}
    alternatives = []
    for plain in _expand_braces(text):
        parts = clean(plain)
        if parts is None:
            raise _invalid(text, "invalid: '..' leads out of the root")
        for part in parts:
            if part not in known:
                known[part] = _DEEP if recursive and part == "**" else _component(part, text)
        alternatives.append(tuple(known[part] for part in parts))
    return Pattern(text, list(dict.fromkeys(alternatives)))


_SHOWN = 200


def _invalid(text: str, what: str) -> InvalidError:
    shown = repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}..."
    return InvalidError(f"glob pattern {shown} is {what}")


_DEEP = _Component(None, "", b"", deep=True)


def _component(part: str, text: str) -> _Component:
    program: list[int] = []
    literal: list[str] = []
    at, plain = 0, True
    while at < len(part):
        char = part[at]
        at += 1
        if char == "\\":
            if at == len(part):
                raise _invalid(text, "malformed: it ends in a backslash")
            char = part[at]
            at += 1
        elif char in "*?":
            program.append(_scan.STAR if char == "*" else _scan.ANY)
            plain = False
            continue
        elif char == "[":
            piece, at = _character_class(part, at, text)
            program += piece
            plain = False
            continue
        program.append(ord(char))
        if plain:
            literal.append(char)
    prefix = "".join(literal)
    return _Component(prefix if plain else None, prefix, struct.pack(f"={len(program)}I", *program))


def _character_class(part: str, at: int, text: str) -> tuple[list[int], int]:
    """The program of the class whose bracket is before `at`, and where it ends."""
    negated = part[at : at + 1] in ("^", "!")
    at += negated
    ranges: list[int] = []
    first = True
    while first or part[at : at + 1] != "]":
        low, at = _class_char(part, at, text)
        high = low
        if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in ("", "]"):
            high, at = _class_char(part, at + 1, text)
        if low <= high:  # a range such as z-a holds nothing
            ranges += (ord(low), ord(high))
        first = False
    return [_scan.NOT if negated else _scan.CLASS, len(ranges) // 2, *ranges], at + 1


def _class_char(part: str, at: int, text: str) -> tuple[str, int]:
    if part[at : at + 1] == "\\":
        at += 1
    if at >= len(part):
        raise _invalid(text, "malformed: a '[' is not closed")
    return part[at], at + 1


def _expand_braces(text: str) -> list[str]:
    """The patterns without braces that `text` stands for."""
    groups = _groups(text)
    level: list[str] = [""]  # what the text since the innermost open group, or comma, stands for
    outer: list[tuple[list[str], list[str]]] = []
    """For each open group what stands before it, and its options that have ended."""
    begin = 0
    for at in sorted(groups):
        level = _joined(text, level, [text[begin:at]])
        begin = at + 1
        if text[at] == "{":
            outer.append((level, []))
            level = [""]
            continue
        outer[-1][1].extend(level)
        level = [""]
        if text[at] == "}":
            before, options = outer.pop()
            level = _joined(text, before, options)
    return _joined(text, level, [text[begin:]])


def _joined(text: str, before: list[str], options: list[str]) -> list[str]:
    count = len(before) * len(options)
    size = sum(map(len, before)) * len(options) + sum(map(len, options)) * len(before)
    if count > MAX_ALTERNATIVES or size > MAX_EXPANDED:
        raise _invalid(
            text, f"invalid: it stands for more than {MAX_ALTERNATIVES} patterns, or {MAX_EXPANDED} characters"
        )
    return [one + other for one in before for other in options]


def _groups(text: str) -> set[int]:
    """Where the braces and commas of all groups stand: pairs of braces with a comma at their own level."""
    found: set[int] = set()
    opened: list[list[int]] = []
    for at in _unescaped(text):
        if text[at] == "{":
            opened.append([at])
        elif opened and text[at] == ",":
            opened[-1].append(at)
        elif opened:
            places = opened.pop()
            if len(places) > 1:
                found.update(places, (at,))
    return found


def _unescaped(text: str) -> Iterator[int]:
    """Where, outside brackets and behind no backslash, a brace or comma stands."""
    at, bracket, last_closing = 0, False, text.rfind("]")
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 2
            continue
        if bracket:
            bracket = char != "]"
        elif char == "[":
            bracket = at < last_closing
        elif char in "{},":
            yield at
        at += 1

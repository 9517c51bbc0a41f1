"""Glob patterns over the paths of a commit.

A pattern is rooted (`*` is `/*`) and cleaned like a path; `/` and the empty pattern give the root. A component
matches as in a shell without crossing `/`: `*`, `?`, `[abc]`, `[a-z]`, `[^x]` or `[!x]`, and a backslash takes the next
character as it is. `**` stands for any number of components (as the last one, for at least one), and
`{a,b}` for either alternative, which may hold slashes; braces without a comma are ordinary characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pfsd import dirs, tree
from pfsd.entries import DirEntry, Entry
from pfsd.errors import InvalidError
from pfsd.paths import Path
from pfsd.tree import NodeReader

MAX_ALTERNATIVES = 1024
"""Most patterns that the braces of one may stand for."""


@dataclass(frozen=True, slots=True)
class _Component:
    """One component of a pattern."""

    literal: str | None
    """The only name that matches, where there is just one."""
    prefix: str
    """What every matching name begins with."""
    regex: re.Pattern[str]
    deep: bool = False
    """Whether it is `**`."""

    def matches(self, name: str) -> bool:
        return self.regex.fullmatch(name) is not None


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
        yield from self._walk(nodes, top, (), states)

    def changes(
        self, nodes: NodeReader, old: DirEntry, new: DirEntry
    ) -> Iterator[tuple[Path, Entry | None, Entry | None]]:
        """What `walk` would find differently below two directories, in path order: paths, each with the old and the
        new entry (None: nothing matches there). Reads only what differs and can match.
        """
        states = self._close({(i, 0) for i in range(len(self._alternatives))})
        if self._accepts(states) and old != new:
            yield (), old, new
        yield from self._changes(nodes, old.root, new.root, (), states)

    def matches(self, path: Path) -> bool:
        """Whether the pattern matches a path."""
        states = self._close({(i, 0) for i in range(len(self._alternatives))})
        for name in path:
            states = self._step(states, name)
        return self._accepts(states)

    def _walk(
        self, nodes: NodeReader, directory: DirEntry, path: Path, states: frozenset[_State]
    ) -> Iterator[tuple[Path, Entry]]:
        wanted = [self._alternatives[i][at] for i, at in states if at < len(self._alternatives[i])]
        for name, entry in _candidates(nodes, directory, wanted):
            reached = self._step(states, name)
            if self._accepts(reached):
                yield (*path, name), entry
            if isinstance(entry, DirEntry) and reached:
                yield from self._walk(nodes, entry, (*path, name), reached)

    def _changes(
        self, nodes: NodeReader, old: bytes, new: bytes, path: Path, states: frozenset[_State]
    ) -> Iterator[tuple[Path, Entry | None, Entry | None]]:
        if old == new:
            return
        wanted = [self._alternatives[i][at] for i, at in states if at < len(self._alternatives[i])]
        for name, before, after in _changed_candidates(nodes, old, new, wanted):
            reached = self._step(states, name)
            if self._accepts(reached):
                yield (*path, name), before, after
            if reached:
                roots = [entry.root if isinstance(entry, DirEntry) else tree.EMPTY for entry in (before, after)]
                yield from self._changes(nodes, roots[0], roots[1], (*path, name), reached)

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


def compile(text: str) -> Pattern:
    """The pattern of this text; raises InvalidError when it is malformed."""
    if "\0" in text:
        raise InvalidError(f"glob pattern {text!r} is invalid: it holds a NUL byte")
    alternatives = []
    for plain in _expand_braces(text):
        parts: list[str] = []
        for part in plain.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        alternatives.append(tuple(_component(part, text) for part in parts))
    return Pattern(text, list(dict.fromkeys(alternatives)))


_DEEP = _Component(None, "", re.compile(".*", re.DOTALL), deep=True)


def _component(part: str, text: str) -> _Component:
    if part == "**":
        return _DEEP
    regex, literal, at, plain = "", "", 0, True
    while at < len(part):
        char = part[at]
        at += 1
        if char == "\\":
            if at == len(part):
                raise InvalidError(f"glob pattern {text!r} is malformed: it ends in a backslash")
            char = part[at]
            at += 1
        elif char in "*?":
            regex += "." if char == "?" else ".*"
            plain = False
            continue
        elif char == "[":
            piece, at = _character_class(part, at, text)
            regex += piece
            plain = False
            continue
        regex += re.escape(char)
        if plain:
            literal += char
    return _Component(literal if plain else None, literal, re.compile(regex, re.DOTALL))


def _character_class(part: str, at: int, text: str) -> tuple[str, int]:
    """The regular expression of the class whose bracket is before `at`, and where it ends."""
    negated = part[at : at + 1] in ("^", "!")
    at += negated
    ranges = ""
    first = True
    while first or part[at : at + 1] != "]":
        low, at = _class_char(part, at, text)
        high = low
        if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in ("", "]"):
            high, at = _class_char(part, at + 1, text)
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
        first = False
    if not ranges:  # only empty ranges, such as [z-a]
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{ranges}]", at + 1


def _class_char(part: str, at: int, text: str) -> tuple[str, int]:
    if part[at : at + 1] == "\\":
        at += 1
    if at >= len(part):
        raise InvalidError(f"glob pattern {text!r} is malformed: a '[' is not closed")
    return part[at], at + 1


def _expand_braces(text: str) -> list[str]:
    """The patterns without braces that `text` stands for."""
    done: list[str] = []
    todo = [text]
    while todo:
        pattern = todo.pop()
        group = _first_group(pattern)
        if group is None:
            done.append(pattern)
        else:
            before, options, after = group
            todo += [before + option + after for option in reversed(options)]
        if len(done) + len(todo) > MAX_ALTERNATIVES:
            raise InvalidError(f"glob pattern {text!r} stands for more than {MAX_ALTERNATIVES} patterns")
    return done


def _first_group(pattern: str) -> tuple[str, list[str], str] | None:
    """Split at the first brace group that holds a comma at its own level."""
    for start in _unescaped(pattern, "{"):
        depth, options, begin = 0, [], start + 1
        for at in _unescaped(pattern, "{},", start):
            if pattern[at] == "{":
                depth += 1
            elif pattern[at] == "}":
                depth -= 1
                if depth == 0:
                    options.append(pattern[begin:at])
                    if len(options) > 1:
                        return pattern[:start], options, pattern[at + 1 :]
                    break
            elif depth == 1:
                options.append(pattern[begin:at])
                begin = at + 1
    return None


def _unescaped(pattern: str, chars: str, start: int = 0) -> Iterator[int]:
    """Where, outside brackets and behind no backslash, one of `chars` stands, from `start` on."""
    at, bracket = 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            at += 2
            continue
        if bracket:
            bracket = char != "]"
        elif char == "[":
            bracket = "]" in pattern[at:]
        elif char in chars and at >= start:
            yield at
        at += 1

"""What running operations rely on before anything durable refers to it, so that a collection leaves it alone.

A chunk or node is stored, or found to be there already, some time before a row in the metadata names it. Meanwhile
only the operation that needs it knows. Operations therefore note every hash that they store or rely on; a
collection keeps what was noted by an operation that began before it, and everything noted since.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

N = TypeVar("N", bound="Noting")
P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


EXACT_HASHES = 1 << 16
BLOOM_BITS = 1 << 24


class Bloom:
    """A set of hashes that never forgets one and rarely claims one that it does not hold."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._array = bytearray(bits // 8 + 1)

    def _places(self, name: bytes) -> Iterator[int]:
        for at in range(0, 32, 8):
            yield int.from_bytes(name[at : at + 8], "little") % self._bits

    def add(self, name: bytes) -> None:
        for place in self._places(name):
            self._array[place >> 3] |= 1 << (place & 7)

    def __contains__(self, name: bytes) -> bool:
        return all(self._array[place >> 3] & 1 << (place & 7) for place in self._places(name))


class Notes:
    """Noted hashes, in bounded memory: exact while they are few, then in a Bloom filter. What that claims too much
    is garbage kept until the next collection."""

    def __init__(self) -> None:
        self._few: set[bytes] = set()
        self._many: Bloom | None = None

    def add(self, name: bytes) -> None:
        if self._many is not None:
            self._many.add(name)
            return
        self._few.add(name)
        if len(self._few) > EXACT_HASHES:
            self._many = Bloom(BLOOM_BITS)
            for each in self._few:
                self._many.add(each)
            self._few.clear()

    def __contains__(self, name: bytes) -> bool:
        return name in (self._few if self._many is None else self._many)


class Operation:
    """Notes the hashes that one operation relies on. Entered around each of its steps, in one thread at a time."""

    def __init__(self, owner: References) -> None:
        self._owner = owner
        self._outer: list[Operation | None] = []
        self.noted = Notes()
        self._pins: set[bytes] = set()

    @property
    def pins(self) -> frozenset[bytes]:
        """The roots of the trees that it took parts of as they are."""
        return frozenset(self._pins)

    def pin(self, root: bytes) -> None:
        """Keep a whole tree, which something durable names. Look again afterwards whether it still does."""
        with self._owner.lock:
            self._pins.add(root)

    def __enter__(self) -> Operation:
        current = self._owner.current
        self._outer.append(getattr(current, "operation", None))
        current.operation = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._owner.current.operation = self._outer.pop()


class Noting(Protocol):
    """An object whose `operation` lasts as long as itself."""

    operation: Operation


def noted(method: Callable[Concatenate[N, P], T]) -> Callable[Concatenate[N, P], T]:
    """Decorates a method of a `Noting` object: what it stores or relies on is noted for its operation."""

    @functools.wraps(method)
    def run(self: N, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.operation:
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[N, P], T]", run)


def as_operation(method: F) -> F:
    """Decorates a method of an object that has the open root as `_root`: each call is an operation."""

    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._root.references.operation():
            return method(self, *args, **kwargs)

    return cast(F, run)


class References:
    """The operations under way, and the collection if one runs. Safe to use from many threads."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        """Held by a collection from asking `is_held` until what is not held is removed."""
        self.current = threading.local()
        self._operations: weakref.WeakSet[Operation] = weakref.WeakSet()
        self._since: Notes | None = None
        self._before: list[Notes] = []

    def operation(self) -> Operation:
        """A new operation; what it notes counts for as long as the object lives."""
        with self.lock:
            made = Operation(self)
            self._operations.add(made)
            return made

    def note(self, name: bytes) -> None:
        """Note a hash for the operation that this thread is in, before looking whether it is stored."""
        operation: Operation | None = getattr(self.current, "operation", None)
        if operation is None and self._since is None:
            return
        with self.lock:
            if operation is not None:
                operation.noted.add(name)
            if self._since is not None:
                self._since.add(name)

    def begin_collection(self) -> None:
        """From now on everything noted is held, and what the operations under way have noted so far."""
        with self.lock:
            self._since = Notes()
            self._before = [operation.noted for operation in self._operations]

    def pinned(self) -> set[bytes]:
        """The roots that operations have pinned. To be asked once all that is durable was marked."""
        with self.lock:
            return set().union(*(operation.pins for operation in self._operations))

    def end_collection(self) -> None:
        with self.lock:
            self._since = None
            self._before = []

    def is_held(self, name: bytes) -> bool:
        """Whether a collection has to leave this hash alone. The caller holds `lock`."""
        return self._since is not None and (name in self._since or any(name in notes for notes in self._before))

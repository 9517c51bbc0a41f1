"""The walk that finds linked names enters nothing else, and goes on where nodes were missing."""

from __future__ import annotations

import pytest

from pfsd.trees import attributes, entries
from pfsd.trees.attributes import Attributes
from pfsd.trees.entries import EMPTY_FILE, Entry, SymlinkEntry
from pfsd.trees.links import LinkWalk
from pfsd.trees.tree import EMPTY, Node, NodesMissing
from tests.pfsd.trees.test_attributes import directory
from tests.support.memory import MemoryNodes

LINKED = entries.with_attributes(EMPTY_FILE, attributes.encode(Attributes(link=b"12345678")))


class _Slowly:
    """Nodes that are only there once they were asked for."""

    def __init__(self, nodes: MemoryNodes) -> None:
        self.nodes = nodes
        self.fetched: set[bytes] = set()

    def get(self, node_hash: bytes) -> Node:
        if node_hash not in self.fetched:
            raise NodesMissing([node_hash])
        return self.nodes.get(node_hash)


def test_the_linked_names_are_found_and_little_else_is_read() -> None:
    nodes = MemoryNodes()
    many: dict[bytes, Entry] = {b"%05d" % number: EMPTY_FILE for number in range(3000)}
    with_one = directory(nodes, {**many, b"01234": LINKED})
    without = directory(nodes, {**many, b"other": SymlinkEntry(b"01234")})
    top = directory(nodes, {b"a": directory(nodes, {b"in": with_one}), b"b": without, b"link": LINKED})
    slow = _Slowly(nodes)
    walk = LinkWalk(slow, top)
    calls = 0
    while True:
        try:
            found = walk.run()
            break
        except NodesMissing as missing:
            calls += 1
            slow.fetched.update(missing.hashes)

    value = entries.encode(LINKED)
    assert found == [((b"a", b"in", b"01234"), value), ((b"link",), value)]
    assert without.root not in slow.fetched
    assert calls <= 5
    assert len(slow.fetched) <= 5
    assert without.root not in slow.fetched


def test_nothing_is_read_where_nothing_is_linked() -> None:
    nodes = MemoryNodes()
    top = directory(nodes, {b"a": EMPTY_FILE})

    assert top.root != EMPTY
    assert LinkWalk(_Slowly(nodes), top).run() == []


@pytest.mark.parametrize("count", [1, 2000])
def test_many_directories_are_asked_for_together(count: int) -> None:
    nodes = MemoryNodes()
    below = {
        b"%04d" % number: directory(nodes, {b"link": LINKED, b"%d" % number: EMPTY_FILE}) for number in range(count)
    }
    top = directory(nodes, dict(below))
    slow = _Slowly(nodes)
    walk = LinkWalk(slow, top)
    calls = 0
    while True:
        try:
            found = walk.run()
            break
        except NodesMissing as missing:
            calls += 1
            slow.fetched.update(missing.hashes)

    assert len(found) == count
    assert calls <= 3 + count // 512 + 1

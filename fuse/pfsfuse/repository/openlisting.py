"""Listing a directory of an open commit while it changes: what the tree has, then what is here alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pfsd.trees.links import link_of
from pfsfuse.kernel.listings import TreeListing
from pfsfuse.kernel.view import View
from pfsfuse.opencommits.opencommit import commit_of
from pfsfuse.opencommits.opennodes import OpenDir, OpenFile


@dataclass(slots=True)
class OpenListing(TreeListing):
    """An open directory of an open commit: what the tree has, then what is here alone."""

    local: list[tuple[bytes, OpenFile | OpenDir]] = field(default_factory=list)
    """With their names."""
    names: set[bytes] = field(default_factory=set)
    recalls: int = 0
    tree: bytes = b""
    """The commit's `recalls` and `root` when the directory was read from its start."""


async def list_open(
    view: View, listing: OpenListing, start: int, show: Callable[[bytes, OpenFile | OpenDir, int, float], bool]
) -> None:
    """Show what is in the directory from the offset `start` on, until `show` says that there is no more room.

    `show` gets a name, its node, the offset of what follows it, and for how many seconds the kernel may keep it.
    """
    directory = listing.inode
    assert isinstance(directory, OpenDir)
    if start == 0:
        await directory.commit.freshen()
        # All of one moment: what is sent while the tree's directory is looked up stays among what is local.
        listing.local = [(name, child) for name, child in directory.children.items() if child.is_local]
        listing.names = {name for name, _ in listing.local}
        listing.recalls, listing.tree = commit_of(directory).recalls, directory.commit.root
        root = await directory.tree_root()
        listing.root, listing.first, listing.page, listing.starts = root, 0, [], [(0, b"")]
    timeout = directory.commit.timeout if listing.recalls == commit_of(directory).recalls else 0.0
    at = start
    while await view.turn_to(listing, at):
        for name, value in listing.page[at - listing.first :]:
            at += 1
            shown = name not in listing.names and name not in directory.hidden and directory.is_linked
            node = None
            if shown and listing.tree == directory.commit.root and not link_of(value):
                node = directory.node_for(name, value)
            elif shown:  # the tree may be another one by now: what is known of files is not to be what they were
                node = await directory.node(name)
            if node is not None and not show(name, node, at, timeout):
                return
    end = listing.starts[-1][0]
    for index in range(at - end, len(listing.local)):
        name, node = listing.local[index]
        here = node.is_linked and directory.children.get(name) is node
        if here and not show(name, node, end + index + 1, timeout):
            return

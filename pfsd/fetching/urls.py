"""Putting what a URL points to: the daemon fetches it. What is on the daemon's own disk has no URL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from pachproto import pfs_pb2
from pfsd import clouds
from pfsd.errors import InvalidError, NotFoundError, SourceError, UnavailableError
from pfsd.fetching import web
from pfsd.fetching.peers import Peer
from pfsd.fetching.reach import Reach
from pfsd.names import pfsurls
from pfsd.redact import redacted_url
from pfsd.runtime.threads import FETCH, WRITE, handing_over, in_thread

Write = Callable[[bytes], None]
"""Takes the next bytes of a file."""
Begin = Callable[[str], None]
"""Says below which path what is written next goes."""


async def fetch(url: str, write: Write, reach: Reach) -> None:
    """Pass the bytes behind a URL of a web server, an object store or a daemon to `write`, which may block.

    Raises InvalidError for other URLs and those that lead out of `reach`, NotFoundError where there is nothing,
    SourceError where who is asked says no, or nothing, or breaks off. Every wait has a bound, and a cancelled one ends
    within a second.
    """
    if pfsurls.is_pfs(url):
        async with Peer(url, pfsurls.parse(url), reach) as peer:
            await _copy(peer, await peer.commit(), peer.place.path, write)
        return
    await _stoppable(_fetch, url, handing_over(WRITE, write), reach)


async def fetch_below(url: str, begin: Begin, write: Write, reach: Reach) -> None:
    """Like `fetch`, of each file below the address of objects or of a daemon's directory; `begin` is told of each."""
    if not pfsurls.is_pfs(url):
        await _stoppable(_fetch_below, url, handing_over(WRITE, begin), handing_over(WRITE, write), reach)
        return
    async with Peer(url, pfsurls.parse(url), reach) as peer:
        commit, is_empty = await peer.commit(), True
        async for path, names in peer.files_below(commit):
            is_empty = False
            await in_thread(WRITE, begin, names)
            await _copy(peer, commit, path, write)
        if is_empty:
            raise _nothing(url)


async def _copy(peer: Peer, commit: pfs_pb2.Commit, path: str, write: Write) -> None:
    async with contextlib.aclosing(peer.blocks(commit, path)) as found:
        async for block in found:
            await in_thread(WRITE, write, block)


async def _stoppable(function: Callable[..., None], *args: object) -> None:
    """Call a function that blocks with an event that is set once nobody waits for it any more."""
    stop = threading.Event()
    try:
        await in_thread(FETCH, function, *args, stop)
    finally:
        stop.set()


def _fetch(url: str, write: Write, reach: Reach, stop: threading.Event) -> None:
    for block in _blocks(url, reach, stop):
        write(block)


def _fetch_below(url: str, begin: Begin, write: Write, reach: Reach, stop: threading.Event) -> None:
    for path, address in _objects_below(url):
        begin(path)
        _fetch(address, write, reach, stop)


def _blocks(url: str, reach: Reach, stop: threading.Event) -> Iterator[bytes]:
    if url.partition("://")[0].lower() in ("http", "https"):
        yield from web.blocks(url, stop, reach)
        return
    if not clouds.is_object(url):
        known = ", ".join((*clouds.SCHEMES, pfsurls.SCHEME))
        raise InvalidError(
            f"the URL {redacted_url(url)} can't be put: only http, https and {known} are known to this version"
        )
    place = clouds.parse(url)
    with _asked():
        for block in clouds.objects(place).blocks(place):
            if stop.is_set():
                raise web.StoppedError(f"nobody waits for {place.url} any more")
            yield block


def _objects_below(url: str) -> Iterator[tuple[str, str]]:
    """The objects below an address: the path of each below it, and its own address."""
    if not clouds.is_object(url):
        raise InvalidError(f"the URL {redacted_url(url)} can't be put recursively: it is a single file")
    place = clouds.parse(url)
    prefix = place.key.rstrip("/") + "/" if place.key.strip("/") else ""
    is_empty = True
    with _asked():
        for key in clouds.objects(place).keys(place.at(prefix)):
            path = key.removeprefix(prefix)
            if not path.endswith("/"):  # a marker of a directory
                is_empty = False
                yield path, place.at(key).url
    if is_empty:
        raise _nothing(url)


def _nothing(url: str) -> NotFoundError:
    return NotFoundError(f"there is nothing below {redacted_url(url)}")


@contextlib.contextmanager
def _asked() -> Iterator[None]:
    """A store that a client named and that does not answer is the client's to look after."""
    try:
        yield
    except UnavailableError as error:
        raise SourceError(str(error)) from error

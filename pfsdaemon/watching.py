"""What those are told who watch over the daemon, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio

from pfsd.filesystem.store import Store
from pfsdaemon.ending import Ending
from ppsd.engine.figures import PipelineFigures


class Watched:
    """What those are told who watch over the daemon."""

    def __init__(self, store: Store, ending: Ending) -> None:
        self._store = store
        self._ending = ending
        self.is_started = False
        self.figures: Callable[[], list[PipelineFigures]] = list
        """Gives the figures of the pipelines."""

    def serving(self, listen: str) -> AbstractAsyncContextManager[str]:
        """Tell it over HTTP."""
        from pfsdaemon import http  # here: most daemons are asked by nobody

        return http.serving(listen, http.application(self.trouble, self.metrics))

    def trouble(self) -> str:
        """Why the daemon is not ready; nothing where it is."""
        if self._ending.is_asked:
            return "it is stopping"
        if not self.is_started:
            return "it is starting"
        return str(self._store.root.trouble or "")

    async def metrics(self) -> bytes:
        """The figures, as Prometheus reads them."""
        from pfsdaemon.metrics import exposition

        return await trio.to_thread.run_sync(exposition, self._store, self.figures())

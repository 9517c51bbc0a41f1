"""The staging areas of open commits, each made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from pfsd.model.staging import Staging


class Areas:
    """Staging areas by the ids of their commits. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._areas: dict[str, Staging] = {}

    def __len__(self) -> int:
        return len(self._areas)

    def get(self, commit_id: str, make: Callable[[], Staging]) -> Staging:
        """The area of a commit; what `make` gives, unless it raises, where there is none yet."""
        with self._lock:
            area = self._areas.get(commit_id)
            if area is None:
                area = self._areas[commit_id] = make()
            return area

    def forget(self, commit_id: str) -> None:
        """A commit is open no longer."""
        with self._lock:
            self._areas.pop(commit_id, None)

    def close(self, commit_ids: Iterable[str]) -> int:
        """Forget the areas of commits, and let nobody who still has one stage anything in it; how many there were."""
        with self._lock:
            found = [area for name in commit_ids if (area := self._areas.pop(name, None)) is not None]
        for area in found:
            area.close()
        return len(found)

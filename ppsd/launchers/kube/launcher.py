"""The Kubernetes launcher: for each pipeline a replication controller, whose pods are its workers.

What is wanted is compared with what the cluster has, found by labels, each time that something is asked for. So a
service that starts anew takes over the controllers of the one before it, and workers that are as they should be stay.
While the cluster does not answer, calls wait; workers that are there go on.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from pfsd.errors import AlreadyExistsError, RefusedError, UnavailableError
from pfsd.runtime.apart import apart
from ppsd.engine.launcher import Reports
from ppsd.launchers.kube import manifest
from ppsd.launchers.kube.cluster import Cluster
from ppsd.launchers.kube.manifest import FINGERPRINT, PIPELINE, Object
from ppsd.launchers.kube.podstates import is_ending, is_usable, name
from ppsd.launchers.kube.settings import Settings
from ppsd.launchers.kube.watching import Watcher
from ppsd.specs.spec import PipelineSpec
from ppsd.storage.records import PipelineRecord

T = TypeVar("T")

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
"""Between tries of what the cluster did not do."""
GONE_SECONDS = 3.0 * manifest.GRACE_SECONDS
"""How long the pods of a pipeline that is stopped are waited for. On a node that is lost they stay until it is back."""
POLL_SECONDS = 0.2


@dataclass(slots=True)
class _Crew:
    """The workers of one pipeline."""

    count: int = 0
    lock: trio.Lock = field(default_factory=trio.Lock)
    """Held while they are changed."""


class KubernetesLauncher:
    """A `Launcher` in a cluster."""

    def __init__(self, cluster: Cluster, settings: Settings, nursery: trio.Nursery, reports: Reports) -> None:
        self._cluster = cluster
        self._settings = settings
        self._reports = reports
        self._crews: defaultdict[str, _Crew] = defaultdict(_Crew)
        self._said: dict[str, str] = {}
        """What was last said of a pipeline because the cluster did not do as it was asked."""
        nursery.start_soon(apart, "watching pods", None, Watcher(cluster, reports).run)

    async def take_up(self, pipelines: Iterable[str]) -> None:
        known = set(pipelines)
        await self._patiently("", self._sort_out, known)

    async def _sort_out(self, known: set[str]) -> None:
        """Remove what belongs to none of these pipelines, and none that came since."""
        everything = manifest.selector()
        for controller in await self._cluster.controllers(everything):
            pipeline = _owner(controller)
            if pipeline in known:
                crew = self._crews[pipeline]
                crew.count = crew.count or controller["spec"]["replicas"]
            elif pipeline not in self._crews:
                logger.info("removing %s: there is no pipeline for it", name(controller))
                await self._cluster.delete_controller(name(controller))
        for service in await self._cluster.services(everything):
            if _owner(service) not in known and _owner(service) not in self._crews:
                await self._cluster.delete_service(name(service))

    async def nodes(self) -> int:
        return await self._patiently("", self._count_nodes)

    async def _count_nodes(self) -> int:
        try:
            return sum(map(is_usable, await self._cluster.nodes()))
        except RefusedError as error:
            logger.warning("one node is assumed: %s", error)
            return 1

    async def launch(self, record: PipelineRecord, count: int) -> None:
        crew = self._crews[record.name]
        async with crew.lock:
            crew.count = count
            await self._patiently(record.name, self._have, record, count)

    async def _have(self, record: PipelineRecord, count: int) -> None:
        """See to it that the cluster has what a pipeline needs, and nothing else for it."""
        wanted = manifest.controller(record, self._settings, count)
        fingerprint = wanted["metadata"]["labels"][FINGERPRINT]
        kept = None
        for controller in await self._controllers(record.name):
            if controller["metadata"]["labels"].get(FINGERPRINT) == fingerprint and not is_ending(controller):
                kept = controller
            else:
                await self._cluster.delete_controller(name(controller))
        if kept is None:
            await self._cluster.create_controller(wanted)
        elif kept["spec"]["replicas"] != count:
            await self._cluster.scale(kept, count)
        await self._have_service(record)

    async def _have_service(self, record: PipelineRecord) -> None:
        wanted = manifest.service(record)
        kept = None
        for service in await self._services(record.name):
            if wanted is not None and _same_service(service, wanted):
                kept = service
            else:
                await self._cluster.delete_service(name(service))
        if wanted is not None and kept is None:
            await self._cluster.create_service(wanted)

    async def prepare(self, record: PipelineRecord, count: int) -> None:
        await self.launch(record, count)

    def release(self, pipeline: str) -> None:
        """Pods stay: whoever pays for the cluster gives a scale_down_threshold."""

    async def stop(self, pipeline: str) -> None:
        crew = self._crews[pipeline]
        async with crew.lock:
            crew.count = 0
            await self._patiently(pipeline, self._remove, pipeline)
        self._said.pop(pipeline, None)

    async def _remove(self, pipeline: str) -> None:
        for service in await self._services(pipeline):
            await self._cluster.delete_service(name(service))
        for controller in await self._controllers(pipeline):
            await self._cluster.delete_controller(name(controller))
        with trio.move_on_after(GONE_SECONDS):
            while left := await self._pods(pipeline):
                await trio.sleep(POLL_SECONDS)
        if left:
            logger.warning("pods of %s do not end: %s", pipeline, ", ".join(map(name, left)))

    async def replace(self, pipeline: str, worker_id: str) -> None:
        await self._patiently(pipeline, self._cluster.delete_pod, worker_id)

    def count(self, pipeline: str) -> int:
        return self._crews[pipeline].count if pipeline in self._crews else 0

    def notices(self, spec: PipelineSpec) -> list[str]:
        return manifest.notices(spec, self._settings)

    # --- asking the cluster ------------------------------------------------------------------------------

    async def _controllers(self, pipeline: str) -> list[Object]:
        return _of(pipeline, await self._cluster.controllers(manifest.selector(pipeline)))

    async def _services(self, pipeline: str) -> list[Object]:
        return _of(pipeline, await self._cluster.services(manifest.selector(pipeline)))

    async def _pods(self, pipeline: str) -> list[Object]:
        return _of(pipeline, await self._cluster.pods(manifest.selector(pipeline)))

    async def _patiently(self, pipeline: str, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """What `function` returns, called again and again until the cluster does as it is asked."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                found = await function(*args)
            except (UnavailableError, AlreadyExistsError) as error:
                self._say(pipeline, str(error), isinstance(error, RefusedError))
            else:
                self._said.pop(pipeline, None)
                return found
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _say(self, pipeline: str, reason: str, refused: bool) -> None:
        logger.warning("%s", reason)
        if not pipeline or self._said.get(pipeline) == reason:
            return
        self._said[pipeline] = reason
        if refused:
            self._reports.workers_held_up(pipeline, reason)
        else:
            self._reports.worker_died(pipeline, reason, hopeless=False)


def _owner(found: Object) -> str:
    """Whose object it is, by its full name: labels may be shortened."""
    owner: str = found["metadata"].get("annotations", {}).get(PIPELINE, "")
    return owner


def _of(pipeline: str, found: Iterable[Object]) -> list[Object]:
    return [one for one in found if _owner(one) == pipeline]


def _same_service(found: Object, wanted: Object) -> bool:
    """Whether a service of the cluster, which has more fields than were given, is as wanted."""
    have, want = found["spec"], wanted["spec"]
    ports = [{key: port.get(key) for key in want["ports"][0]} for port in have["ports"]]
    same = have["type"] == want["type"] and have.get("selector") == want["selector"] and ports == want["ports"]
    return same and not is_ending(found)

"""Watches the workers' pods, and tells their pipelines what keeps them from working and how they were lost."""

from __future__ import annotations

import logging

import trio

from pfsd.errors import UnavailableError
from pfsd.runtime.apart import reason_of
from ppsd.engine.launcher import Reports
from ppsd.launchers.kube import manifest, podstates
from ppsd.launchers.kube.cluster import Cluster
from ppsd.launchers.kube.manifest import Object
from ppsd.launchers.kube.podstates import Trouble

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
EVENTS_SECONDS = 5.0
"""How often the events of pods are read that are not made and do not say why."""
EVENTS_PODS = 5
"""Of how many pods at a time."""


class Watcher:
    """Follows all workers' pods of a namespace."""

    def __init__(self, cluster: Cluster, reports: Reports) -> None:
        self._cluster = cluster
        self._reports = reports
        self._pods: dict[str, Object] = {}
        self._troubles: dict[str, Trouble] = {}
        """By pod: what was last said."""
        self._lost: set[str] = set()
        """Pods whose loss was told."""

    async def run(self) -> None:
        """Follow the pods until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._ask_events)

    async def _follow(self) -> None:
        said = ""
        while True:
            try:
                async with self._cluster.watching_pods(manifest.selector()) as changes:
                    before, self._pods = self._pods, {}
                    async for kind, pod in changes:
                        name = podstates.name(pod)
                        if kind == "DELETED":
                            self._forget(name)
                            continue
                        await self._look(before.pop(name, None) or self._pods.get(name), pod)
                        self._pods[name] = pod
                for name in set(self._troubles) - set(self._pods):
                    self._forget(name)
                said = ""
                continue
            except UnavailableError as error:
                if str(error) != said:
                    logger.warning("pods are not seen for the moment: %s", error)
                said = str(error)
            except Exception as error:  # noqa: BLE001 (a pod that is not understood: the others are)
                if repr(error) != said:
                    reason_of(error, "watching pods")
                said = repr(error)
            await trio.sleep(RETRY_SECONDS)

    def _forget(self, name: str) -> None:
        self._pods.pop(name, None)
        self._troubles.pop(name, None)
        self._lost.discard(name)

    async def _look(self, before: Object | None, pod: Object) -> None:
        """Tell what is new of a pod."""
        name, pipeline = podstates.name(pod), podstates.pipeline(pod)
        loss = podstates.loss(pod)
        if loss and name not in self._lost:
            self._lost.add(name)
            self._reports.worker_died(pipeline, loss, hopeless=False)
        if podstates.has_failed(pod) and not podstates.is_ending(pod):
            await self._cluster.delete_pod(name)  # its controller has made another, and leaves this one
        if podstates.is_ending(pod):
            return
        if before is not None:
            former = podstates.restarts(before)
            for container, count in podstates.restarts(pod).items():
                if count > former.get(container, 0):
                    self._reports.worker_died(pipeline, podstates.last_end(pod, container), hopeless=False)
        self._tell(pod, podstates.trouble(pod, self._troubles.get(name)))

    def _tell(self, pod: Object, trouble: Trouble | None) -> None:
        """Tell a pod's trouble, if it is not the one that was told before."""
        name = podstates.name(pod)
        if trouble is None:
            if not podstates.is_stuck(pod):
                self._troubles.pop(name, None)
            return
        if self._troubles.get(name) == trouble:
            return
        self._troubles[name] = trouble
        if trouble.blocked:
            self._reports.workers_held_up(podstates.pipeline(pod), trouble.text)
        else:
            self._reports.worker_died(podstates.pipeline(pod), trouble.text, hopeless=False)

    async def _ask_events(self) -> None:
        """For pods that stay in the making, look what the cluster notes of them."""
        waiting: dict[str, Object] = {}
        while True:
            await trio.sleep(EVENTS_SECONDS)
            stuck = {name: pod for name, pod in self._pods.items() if podstates.is_stuck(pod)}
            for name in list(stuck.keys() & waiting.keys())[:EVENTS_PODS]:
                try:
                    events = await self._cluster.events(stuck[name])
                    if name in self._pods and podstates.is_stuck(self._pods[name]):
                        self._tell(stuck[name], podstates.trouble_of_events(stuck[name], events))
                except UnavailableError as error:
                    logger.warning("%s", error)
                    break
                except Exception as error:  # noqa: BLE001 (what has happened to this pod is not understood)
                    reason_of(error, f"reading the events of {name}")
            waiting = stuck

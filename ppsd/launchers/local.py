"""The local launcher: workers are processes of this machine, each in a mount namespace of its own."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import trio
from blake3 import blake3

from pfsd.errors import UnavailableError
from pfsd.runtime.apart import apart, reason_of
from ppsd.engine.launcher import Reports
from ppsd.launchers import ports
from ppsd.specs.limits import Limits
from ppsd.specs.spec import PipelineSpec, ServiceSpec
from ppsd.storage.records import PipelineRecord
from ppsd.worker.cgroups import Maker
from ppsd.worker.processes import Child

logger = logging.getLogger(__name__)

STOP_PATIENCE_SECONDS = 1.5
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
HEALTHY_SECONDS = 10.0
"""A worker that lived so long has started well: the count of failed starts begins anew."""
HOPELESS_STARTS = 5
"""So many workers of one place ended young, one after the other: more will not do better."""

WARM_WORKERS = 32
"""So many workers without a job are kept for the next one, at about 40 MiB each; a new worker takes half a second."""


class _Place:
    """Where one worker of a pipeline runs, and is replaced when it dies."""

    def __init__(self, worker_id: str, limits: Limits) -> None:
        self.worker_id = worker_id
        self.limits = limits
        self.scope = trio.CancelScope()
        self.life = trio.CancelScope()
        """Of the worker that is there now."""
        self.vacant = trio.Event()


class _Crew:
    """The workers of one pipeline."""

    def __init__(self) -> None:
        self.places: list[_Place] = []
        self.lock = trio.Lock()
        """Held while places are filled or vacated: a place's name may be used again only when it is vacant."""
        self.surplus = False
        """Whether they are to be stopped, unless a job comes first."""

    async def shrink(self, count: int) -> None:
        """Stop all but `count` workers; none of those is left when this returns. Called with the lock held."""
        excess = self.places[count:]
        del self.places[count:]
        for place in excess:
            place.scope.cancel()
        with trio.CancelScope(shield=True):  # whoever takes the lock next counts on their being gone
            for place in excess:
                await place.vacant.wait()


class LocalLauncher:
    """A `Launcher` whose workers connect to `address` and keep their output below `scratch` until it is stored.

    A secret called NAME is the directory NAME below `secrets`. At most `warm` workers stay while their pipelines have
    no job; beyond that, those of the pipelines that have had none for the longest time are stopped.
    """

    def __init__(
        self,
        address: str,
        scratch: Path,
        secrets: Path,
        nursery: trio.Nursery,
        reports: Reports,
        warm: int = WARM_WORKERS,
    ) -> None:
        self._address = address
        self._scratch = scratch / "workers"
        self._secrets = secrets
        self._nursery = nursery
        self._reports = reports
        self._prefix = f"pfsd-{blake3(os.fsencode(scratch.absolute())).hexdigest(4)}-"
        """Of the names of what this launcher makes elsewhere on the machine."""
        self._groups = Maker(self._prefix)
        self._open_ports: dict[str, tuple[ServiceSpec, trio.CancelScope]] = {}
        self._warm = warm
        self._crews: defaultdict[str, _Crew] = defaultdict(_Crew)
        self._idle: dict[str, None] = {}
        """The pipelines that have workers and no job, the one that has had none for the longest time first."""
        self._cleared = trio.Event()
        nursery.start_soon(apart, "removing what former workers have left", None, self._clear)

    async def _clear(self) -> None:
        """Remove what the workers of a service that was killed have left."""
        try:
            await trio.to_thread.run_sync(_remove, self._scratch)
            for left in Path(tempfile.gettempdir()).glob(f"{self._prefix}*"):
                await trio.to_thread.run_sync(_remove, left)
        finally:
            self._cleared.set()

    async def take_up(self, pipelines: Iterable[str]) -> None:
        """Nothing: a worker ends with its service."""

    async def nodes(self) -> int:
        return 1

    async def launch(self, record: PipelineRecord, count: int) -> None:
        await self._cleared.wait()
        spec, salt = record.spec, record.salt
        crew, limits = self._crews[spec.name], spec.limits()
        async with crew.lock:
            self._wanted(spec.name)
            if any(place.limits != limits for place in crew.places):
                await crew.shrink(0)
            while len(crew.places) < count:
                place = _Place(f"{spec.name}-{salt[:8]}-{len(crew.places)}", limits)
                crew.places.append(place)
                what = f"keeping worker {place.worker_id}"
                self._nursery.start_soon(apart, what, None, self._keep, spec, salt, place)
            await crew.shrink(count)

        self._open_port(spec)

    def _open_port(self, spec: PipelineSpec) -> None:
        """Let a service be reached, if it is one."""
        service, open_now = spec.service, self._open_ports.get(spec.name)
        if open_now is not None and open_now[0] == service:
            return
        self._close_port(spec.name)
        if service is not None and service.external_port:
            scope = trio.CancelScope()
            self._open_ports[spec.name] = (service, scope)
            host = self._address.rpartition(":")[0]
            complain = functools.partial(self._reports.worker_died, spec.name, hopeless=False)
            what = f"serving port {service.external_port}"
            numbers = (service.external_port, service.internal_port)
            self._nursery.start_soon(apart, what, complain, ports.serve, scope, host, *numbers, complain)

    def _close_port(self, pipeline: str) -> None:
        open_now = self._open_ports.pop(pipeline, None)
        if open_now is not None:
            open_now[1].cancel()

    async def prepare(self, record: PipelineRecord, count: int) -> None:
        if sum(len(crew.places) for crew in self._crews.values()) + count <= self._warm:
            await self.launch(record, count)
            self.release(record.name)

    def release(self, pipeline: str) -> None:
        self._wanted(pipeline)
        if self.count(pipeline):
            self._idle[pipeline] = None
        surplus = sum(map(self.count, self._idle)) - self._warm
        while surplus > 0:
            oldest = next(iter(self._idle))
            surplus -= self.count(oldest)
            del self._idle[oldest]
            self._crews[oldest].surplus = True
            self._nursery.start_soon(apart, f"dismissing workers of {oldest}", None, self._dismiss, oldest)

    def _wanted(self, pipeline: str) -> None:
        self._idle.pop(pipeline, None)
        self._crews[pipeline].surplus = False

    async def _dismiss(self, pipeline: str) -> None:
        crew = self._crews[pipeline]
        async with crew.lock:
            if crew.surplus:
                await crew.shrink(0)

    async def stop(self, pipeline: str) -> None:
        self._close_port(pipeline)
        crew = self._crews[pipeline]
        async with crew.lock:
            self._idle.pop(pipeline, None)
            await crew.shrink(0)

    async def replace(self, pipeline: str, worker_id: str) -> None:
        for place in self._crews[pipeline].places:
            if place.worker_id == worker_id:
                place.life.cancel()

    def count(self, pipeline: str) -> int:
        return len(self._crews[pipeline].places) if pipeline in self._crews else 0

    def notices(self, spec: PipelineSpec) -> list[str]:
        found = []
        image = spec.transform.image
        if image:
            found.append(f'image "{image}" is not used: workers of the local launcher run in the host\'s file system')
        if spec.transform.image_pull_secrets:
            found.append("image_pull_secrets are not used: the local launcher pulls no images")
        if spec.gpu:
            found.append(
                "resource_spec.gpu is not enforced: workers of the local launcher see all of the machine's GPUs"
            )
        found += [
            f"resource_spec.{name} is not enforced: there is no control group that this process may use for it"
            for name in self._groups.missing(spec.limits())
        ]
        return found

    async def _keep(self, spec: PipelineSpec, salt: str, place: _Place) -> None:
        """Run a worker in a place, and another one when it dies, until the place is given up."""
        pipeline = spec.name
        scratch = self._scratch / pipeline / place.worker_id
        try:
            with place.scope:
                failed_starts = 0
                while failed_starts < HOPELESS_STARTS:
                    began = trio.current_time()
                    try:
                        reason = await self._live(spec, salt, place, scratch)
                    except Exception as error:  # noqa: BLE001 (it counts as a start that failed)
                        reason = reason_of(error, f"worker {place.worker_id}")
                    failed_starts = 0 if trio.current_time() - began > HEALTHY_SECONDS else failed_starts + 1
                    self._report(pipeline, reason, failed_starts >= HOPELESS_STARTS)
                    pause = FIRST_PAUSE_SECONDS * 2.0 ** max(0, failed_starts - 1)
                    await trio.sleep(min(LONGEST_PAUSE_SECONDS, pause))
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, scratch)
            place.vacant.set()

    async def _live(self, spec: PipelineSpec, salt: str, place: _Place, scratch: Path) -> str:
        """Run one worker to its end; returns how it ended."""
        worker_id = place.worker_id
        command = [sys.executable, "-m", "ppsd.worker.worker"]
        command += ["--address", self._address, "--pipeline", spec.name, "--salt", salt]
        command += ["--worker-id", worker_id, "--scratch", str(scratch), "--parent", str(os.getpid())]
        for hidden in (self._scratch, self._secrets):
            command += ["--hide", str(hidden.absolute())]
        for secret in spec.transform.secrets:
            command += ["--secret", str(self._secrets / secret.name), secret.mount_path]
        private = None
        try:
            await trio.to_thread.run_sync(_make_empty, scratch)
            private = Path(tempfile.mkdtemp(prefix=self._prefix))
            command += ["--private", str(private)]
            group = self._groups.make(worker_id, place.limits)
            for directory in group.directories:
                command += ["--cgroup", str(directory)]
            child = Child(command)
        except (OSError, UnavailableError) as error:
            if private is not None:
                _remove(private)
            return f"worker {worker_id} can't be started: {error}"
        logger.info("worker %s started, process %d", worker_id, child.pid)
        status = None
        try:
            with trio.CancelScope() as place.life:
                status = await child.wait()
        finally:
            await child.stop(STOP_PATIENCE_SECONDS)
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(group.remove)
                await trio.to_thread.run_sync(_remove, private)
        if status is None:
            return f"worker {worker_id} did not answer any more and was ended"
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        words = child.last_words
        if "\n" in words:
            logger.warning("worker %s said at its end:\n%s", worker_id, words)
        return f"worker {worker_id} {how}" + (f": {words.splitlines()[-1]}" if words else "")

    def _report(self, pipeline: str, reason: str, hopeless: bool) -> None:
        logger.warning("%s", reason)
        self._reports.worker_died(pipeline, reason, hopeless)


def _make_empty(directory: Path) -> None:
    _remove(directory)
    directory.mkdir(parents=True)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)

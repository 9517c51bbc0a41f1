"""What the daemon tells Prometheus: figures that are at hand or cheap to get, taken when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from prometheus_client import GC_COLLECTOR, PROCESS_COLLECTOR, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from pfsd.calls.measuring import BOUNDS, measures
from pfsd.filesystem.store import Store
from pfsd.local.kv import FAMILIES
from pfsd.objectstores.blockfiles import statistics
from pfsd.objectstores.cachedstore import CachedStore
from pfsd.runtime import threads
from pfsd.version import VERSION
from ppsd.engine.figures import PipelineFigures

Labels = tuple[str, ...]


class Figures(Collector):
    """All of it, at one moment."""

    def __init__(self, store: Store, pipelines: Sequence[PipelineFigures]) -> None:
        self._store = store
        self._pipelines = pipelines

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        yield _gauge("pfsd_info", "The version that runs.", ("version",), [((VERSION,), 1)])
        yield from _calls()
        yield from _work()
        yield from _storage(self._store)
        yield from _pipelines(self._pipelines)


def exposition(store: Store, pipelines: Sequence[PipelineFigures]) -> bytes:
    """The metrics in Prometheus's text format."""
    registry = CollectorRegistry()
    for collector in (Figures(store, pipelines), PROCESS_COLLECTOR, GC_COLLECTOR):
        registry.register(collector)
    return generate_latest(registry)


def _calls() -> Iterator[Metric]:
    found = sorted(measures.items())
    took = HistogramMetricFamily(
        "pfsd_call_seconds",
        "How long calls took that have ended, those that waited for something too.",
        labels=["method"],
    )
    for method, measure in found:
        counts, groups = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), measure.groups, strict=True):
            counts += count
            groups.append((bound, counts))
        took.add_metric([method], groups, measure.seconds)
    yield took
    ended = [((method, status), count) for method, one in found for status, count in list(one.outcomes.items())]
    yield _counter("pfsd_calls", "Calls that have ended.", ("method", "status"), ended)
    yield _gauge(
        "pfsd_open_calls", "Calls that have not ended.", ("method",), [((name,), one.open) for name, one in found]
    )
    received = [((name,), one.received) for name, one in found]
    yield _counter("pfsd_received_bytes", "Bytes of requests.", ("method",), received)
    yield _counter("pfsd_sent_bytes", "Bytes of answers.", ("method",), [((name,), one.sent) for name, one in found])


def _work() -> Iterator[Metric]:
    load = threads.load()
    running = [((kind,), slots.taken) for kind, slots in load]
    yield _gauge("pfsd_work_running", "Threads that do a kind of work.", ("kind",), running)
    waiting = [((kind,), slots.waiting) for kind, slots in load]
    yield _gauge("pfsd_work_waiting", "Calls that wait for such a thread.", ("kind",), waiting)
    waited = [((kind,), slots.waited_seconds) for kind, slots in load]
    yield _counter("pfsd_work_waited_seconds", "For which calls had to wait for one.", ("kind",), waited)


def _storage(store: Store) -> Iterator[Metric]:
    root = store.root
    rows = [((family,), root.db.estimated_count(family)) for family in FAMILIES]
    yield _gauge("pfsd_rows", "Rows of the metadata, estimated.", ("family",), rows)
    yield _gauge(
        "pfsd_writable", "Whether anything can be stored (1) or not (0).", (), [((), int(root.trouble is None))]
    )
    packs = [path.stat().st_size for path in root.spool.iterdir() if path.is_file()]
    yield _gauge("pfsd_spool_packs", "Packs that are not in the object store yet.", (), [((), len(packs))])
    yield _gauge("pfsd_spool_bytes", "Bytes of those.", (), [((), sum(packs))])
    disk = os.statvfs(root.directory)
    room = [(("free",), disk.f_bavail * disk.f_frsize), (("all",), disk.f_blocks * disk.f_frsize)]
    yield _gauge("pfsd_disk_bytes", "Room where the root is.", ("which",), room)
    if isinstance(root.objects, CachedStore):
        tally, kept = root.objects.tally, statistics(root.objects.cache.directory)
        yield _counter("pfsd_object_store_requests", "Requests to the object store.", (), [((), tally.requests)])
        yield _counter("pfsd_object_store_failures", "Those that failed.", (), [((), tally.failures)])
        yield _gauge("pfsd_cache_bytes", "Held by the block cache.", (), [((), kept.bytes)])
        reads = [(("hit",), kept.hits), (("miss",), kept.misses)]
        yield _counter("pfsd_cache_reads", "Reads of blocks, of all who use the cache.", ("outcome",), reads)
        yield _counter("pfsd_cache_fetched_bytes", "Fetched into it.", (), [((), kept.fetched)])


def _pipelines(pipelines: Sequence[PipelineFigures]) -> Iterator[Metric]:
    states = [((one.name, one.state.name.lower()), 1) for one in pipelines]
    yield _gauge("pfsd_pipeline_state", "The state that a pipeline is in.", ("pipeline", "state"), states)
    jobs = [((one.name, state.name.lower()), count) for one in pipelines for state, count in one.open_jobs.items()]
    yield _gauge("pfsd_open_jobs", "Jobs that are not at their end.", ("pipeline", "state"), jobs)
    ended = [((one.name, state.name.lower()), count) for one in pipelines for state, count in one.ended.jobs.items()]
    yield _counter("pfsd_ended_jobs", "Jobs that are, since the daemon began.", ("pipeline", "state"), ended)
    datums = [
        ((one.name, what), count)
        for one in pipelines
        for what, count in (("processed", one.ended.processed), ("skipped", one.ended.skipped))
    ]
    yield _counter("pfsd_datums", "Datums of those jobs.", ("pipeline", "outcome"), datums)
    workers = [((one.name,), one.workers) for one in pipelines]
    yield _gauge("pfsd_workers", "Workers that are connected.", ("pipeline",), workers)
    waiting = [((one.name,), one.waiting) for one in pipelines]
    yield _gauge("pfsd_waiting_tasks", "Tasks that wait for a worker.", ("pipeline",), waiting)


def _gauge(name: str, what: str, labels: Labels, values: Sequence[tuple[Labels, float]]) -> Metric:
    return _filled(GaugeMetricFamily(name, what, labels=labels), values)


def _counter(name: str, what: str, labels: Labels, values: Sequence[tuple[Labels, float]]) -> Metric:
    return _filled(CounterMetricFamily(name, what, labels=labels), values)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, values: Sequence[tuple[Labels, float]]) -> Metric:
    for given, value in values:
        family.add_metric(given, value)
    return family

"""The metrics of all three services.

With more than one process `prepare_directory` must have been called before this module is imported by anything: the
client library looks at its environment variable while it is imported.
"""

from __future__ import annotations

import os
import resource
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import REGISTRY
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

__all__ = ["BUCKETS", "BatchHistogram", "bucket_of", "forget_process", "render"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From 50 µs: a redirect out of memory takes less, one out of PostgreSQL about a millisecond.
BUCKETS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket that a duration falls into; len(BUCKETS) is the one above all."""
    return bisect_left(BUCKETS, seconds)


class BatchHistogram(Histogram):
    """A histogram that also takes many observations at once, already counted by bucket."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add observations.

        Args:
            counts: how many fell into each of the buckets; the last one is the one above all.
            total: the sum of the observed values.
        """
        self._sum.inc(total)
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)


HTTP_REQUESTS = Counter("http_requests", "Requests answered, by route template.", ["method", "path", "status"])
HTTP_SECONDS = BatchHistogram(
    "http_request_duration_seconds",
    "Time from a request's headers to its answer.",
    ["method", "path", "status"],
    buckets=BUCKETS,
)
REDIRECT_SECONDS = BatchHistogram(
    "redirect_duration_seconds", "Time to answer a short link, by whatever it led to.", buckets=BUCKETS
)
ACTIVE_CONNECTIONS = Gauge("linkrift_active_connections", "Open client connections.", multiprocess_mode="livesum")
CACHE_HITS = Counter("linkrift_cache_hits", "Links found, by where: memory, redis or postgresql.", ["tier"])
CACHE_ENTRIES = Gauge(
    "linkrift_cache_entries", "Links in the processes' memory.", ["kind"], multiprocess_mode="livesum"
)
CACHE_BYTES = Gauge(
    "linkrift_cache_bytes", "What the links in the processes' memory take of it.", multiprocess_mode="livesum"
)
QUERY_SECONDS = Histogram(
    "database_query_duration_seconds",
    "Time of PostgreSQL statements, the wait for a connection included.",
    ["query_type"],
    buckets=BUCKETS,
)
DB_ACTIVE = Gauge("db_connections_active", "PostgreSQL connections in use.", multiprocess_mode="livesum")
DB_MAX = Gauge("db_connections_max", "PostgreSQL connections that may be open.", multiprocess_mode="livesum")
DEPENDENCY_ERRORS = Counter("linkrift_dependency_errors", "Calls to a data store that failed.", ["dependency"])
BREAKER_STATE = Gauge(
    "linkrift_breaker_state",
    "Whether a data store is asked: 0 yes, 1 a probe is under way, 2 no.",
    ["dependency"],
    multiprocess_mode="livemax",
)
BREAKER_OPENED = Counter("linkrift_breaker_opened", "Times a data store was given up until it answers.", ["dependency"])
RATE_LIMITED = Counter("linkrift_rate_limited", "Requests refused with 429, by the limit.", ["limit"])
BREAKER_REFUSED = Counter(
    "linkrift_breaker_refused", "Calls that were not made, since the data store did not answer before.", ["dependency"]
)
CLICKS_CAPTURED = Counter("linkrift_clicks_captured", "Clicks taken for counting.")
CLICKS_DROPPED = Counter("linkrift_clicks_dropped", "Clicks lost because nothing had room for them any more.")
CLICKS_SPOOLED = Counter("linkrift_clicks_spooled", "Clicks written to disk because Redis did not take them.")
CLICK_SPOOL_BYTES = Gauge(
    "linkrift_click_spool_bytes", "Bytes of clicks on disk that Redis did not take yet.", multiprocess_mode="livemax"
)
CLICK_SPOOL_FAILING = Gauge(
    "linkrift_click_spool_failing",
    "Whether the disk took no clicks when it was tried last: 1 it did not.",
    multiprocess_mode="livemax",
)
CLICK_BUFFER = Gauge("linkrift_click_buffer", "Clicks waiting to be sent to Redis.", multiprocess_mode="livesum")
QUEUE_LENGTH = Gauge("job_queue_length", "Entries in a queue.", ["queue"], multiprocess_mode="livemax")
CLICK_LAG = Gauge(
    "linkrift_click_lag_seconds", "Age of the oldest click that is not in ClickHouse yet.", multiprocess_mode="livemax"
)
CLICKS_STORED = Counter("linkrift_clicks_stored", "Clicks inserted into ClickHouse and acknowledged.")
CLICKS_REJECTED = Counter("linkrift_clicks_rejected", "Click events set aside because they cannot be read.")


class _MemoryCollector(Collector):
    """The resident memory of all processes of the slot, under the name that alerts use for one."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        """Read it from /proc."""
        total = sum(map(_resident_bytes, self._pids))
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory size in bytes.", value=total)


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process; one that just ended has none."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def render(pids: Sequence[int]) -> bytes:
    """Return all metrics of the slot in Prometheus' text format.

    Args:
        pids: the slot's processes; with more than one the figures are those of all of them.
    """
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory is None:
        text = bytes(generate_latest(REGISTRY))
        # Where the unit hides what is not about processes in /proc, the library tells nothing of the process at all.
        return text if PROCESS_COLLECTOR.collect() else text + _memory(pids)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call] # the library declares no types here
    registry.register(_MemoryCollector(pids))
    return bytes(generate_latest(registry))


def _memory(pids: Iterable[int]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_MemoryCollector(pids))
    return bytes(generate_latest(registry))


def forget_process(pid: int) -> None:
    """Take the gauges of a process that ended out of the sums; what it counted stays."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call] # the library declares no types here

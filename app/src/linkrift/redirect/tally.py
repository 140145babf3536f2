"""Counts and times of answers, kept as plain numbers while requests are answered and handed to the metrics later."""

from __future__ import annotations

from collections import defaultdict

from linkrift.metrics import BUCKETS, HTTP_REQUESTS, HTTP_SECONDS, REDIRECT_SECONDS, bucket_of

PATH = "/{code}"


class _Row:
    """Answers to one method with one status."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Tally:
    """Counts answers to visitors by method, status and time. The time is that between a request and its answer."""

    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, int], _Row] = defaultdict(_Row)

    def add(self, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        row = self._rows[method, status]
        row.counts[bucket_of(seconds)] += 1
        row.total += seconds

    def hand_over(self) -> None:
        """Add everything to the metrics and begin anew."""
        rows, self._rows = self._rows, defaultdict(_Row)
        for (method, status), row in rows.items():
            labels = (method, PATH, str(status))
            HTTP_REQUESTS.labels(*labels).inc(sum(row.counts))
            HTTP_SECONDS.labels(*labels).add(row.counts, row.total)
            REDIRECT_SECONDS.add(row.counts, row.total)

#!/usr/bin/env python3
"""Sends a bounded, paced load of GET requests and counts what a visitor would have noticed.

Runs on a lab host with nothing but Python's standard library. A request counts as failed when it gets no answer,
another status than the expected one, or an answer after the timeout; nothing is tried again. With a rate, latency is
measured from the moment the request was due, so that a server that stalls cannot hide it (coordinated omission).
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import ssl
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

MAX_SECONDS = 3600.0


@dataclass
class Result:
    """What one connection, or all of them together, saw. Latencies are in seconds.

    `samples` has each request when they are asked for: when it began (seconds since the epoch), how long it took,
    whether it was answered as expected. `paths` has how often each path was answered as expected.
    """

    latencies: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[float, float, bool]] | None = None

    def note(self, began: float, *, fine: bool) -> None:
        """Take down a request that began at a moment of the monotonic clock and is over now."""
        if self.samples is not None:
            took = time.monotonic() - began
            self.samples.append((time.time() - took, took, fine))

    def add(self, other: Result) -> None:
        """Add another connection's figures to these."""
        self.latencies += other.latencies
        self.failures += other.failures
        self.statuses += other.statuses
        self.versions += other.versions
        self.paths += other.paths
        if self.samples is not None:
            self.samples += other.samples or []

    def report(self, seconds: float) -> dict[str, object]:
        """Return the figures as JSON-ready values; latencies in milliseconds."""
        ordered = sorted(self.latencies)
        failed = sum(self.failures.values())
        return {
            "requests": len(ordered) + failed,
            "failed": failed,
            "failures": dict(self.failures),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "versions": dict(self.versions),
            "seconds": round(seconds, 3),
            "per_second": round((len(ordered) + failed) / seconds, 1) if seconds else 0.0,
            "p50_ms": percentile(ordered, 0.50),
            "p99_ms": percentile(ordered, 0.99),
            "max_ms": percentile(ordered, 1.0),
        }


def percentile(ordered: list[float], share: float) -> float | None:
    """Return the value below which the share (0 to 1) of the ordered seconds lies, in milliseconds (nearest rank)."""
    if not ordered:
        return None
    return round(ordered[max(0, math.ceil(len(ordered) * share) - 1)] * 1000, 3)


class Schedule:
    """Hands out the next request: its number and when it is due. Shared by all connections."""

    def __init__(self, rate: float, count: int, deadline: float, stop_file: Path | None) -> None:
        self.rate, self.count, self.deadline, self.stop_file = rate, count, deadline, stop_file
        self.start = time.monotonic()
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def next(self) -> tuple[int, float | None] | None:
        """Return (number, due time or None for at once), or None when the load is over."""
        with self._lock:
            number = next(self._numbers)
        due = self.start + number / self.rate if self.rate else None
        if number >= self.count or (due or time.monotonic()) >= self.deadline:
            return None
        if self.stop_file and self.stop_file.exists():
            return None
        return number, due


def run_connection(options: argparse.Namespace, schedule: Schedule, urls: list[str]) -> Result:
    """Send this connection's share of the schedule, opening the connection anew only after it was closed."""
    result = Result(samples=[] if options.samples else None)
    parts = urlsplit(urls[0])
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=options.ca)
        connection = _PinnedHTTPS(host, port, options.connect, timeout=options.timeout, context=context)
    else:
        connection = http.client.HTTPConnection(options.connect or host, port, timeout=options.timeout)
    headers = {"Host": parts.netloc, "User-Agent": "linkrift-load"}
    while (item := schedule.next()) is not None:
        number, due = item
        if due is not None and (wait := due - time.monotonic()) > 0:
            time.sleep(wait)
        began = due if due is not None else time.monotonic()
        path = urlsplit(urls[number % len(urls)]).path
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            result.failures[f"{type(error).__name__}: {error}"] += 1
            result.note(began, fine=False)
            connection.close()
            continue
        result.statuses[answer.status] += 1
        result.versions[answer.headers.get("X-Deployment-Version", "none")] += 1
        result.note(began, fine=answer.status == options.expect)
        if answer.status == options.expect:
            result.latencies.append(time.monotonic() - began)
            result.paths[path] += 1
        else:
            result.failures[f"status {answer.status}"] += 1
    connection.close()
    return result


class _PinnedHTTPS(http.client.HTTPSConnection):
    """Connects to a given address while name checks and SNI use the URL's host, as `curl --resolve` does."""

    def __init__(self, host: str, port: int, address: str | None, *, timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout, context=context)
        self._address, self._tls = address or host, context

    def connect(self) -> None:
        """Open the TCP connection to the pinned address and the TLS session for the URL's host."""
        plain = http.client.HTTPConnection(self._address, self.port, timeout=self.timeout)
        plain.connect()
        self.sock = self._tls.wrap_socket(plain.sock, server_hostname=self.host)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the checked command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", nargs="+", help="URLs on one host, taken in turn; or @FILE with one a line")
    parser.add_argument("--connect", help="connect to this address instead of resolving the host name")
    parser.add_argument("--ca", help="file of certificate authorities to trust")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second over all connections; 0: at once")
    parser.add_argument("--connections", type=int, default=1, help="connections kept open (default 1)")
    parser.add_argument("--count", type=int, default=10_000, help="requests at the most (default 10000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="seconds at the most (default 60)")
    parser.add_argument("--timeout", type=float, default=5.0, help="seconds until an answer counts as failed")
    parser.add_argument("--expect", type=int, default=302, help="the status that counts as an answer (default 302)")
    parser.add_argument("--samples", type=Path, help="write each request here: when it began, milliseconds, 1 if fine")
    parser.add_argument("--by-path", action="store_true", help="say how often each path was answered as expected")
    parser.add_argument("--stop-file", type=Path, help="end early when this file exists")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds <= MAX_SECONDS:
        parser.error(f"--seconds must be above 0 and at most {MAX_SECONDS:.0f}")
    if options.connections < 1 or options.count < 1 or options.rate < 0:
        parser.error("--connections and --count must be at least 1, --rate at least 0")
    return options


def read_urls(words: list[str]) -> list[str]:
    """Return the URLs; a word @FILE stands for the file's lines."""
    urls: list[str] = []
    for word in words:
        urls += Path(word[1:]).read_text().split() if word.startswith("@") else [word]
    return urls


def run(options: argparse.Namespace) -> dict[str, object]:
    """Send the load and return the report."""
    urls = read_urls(options.url)
    schedule = Schedule(options.rate, options.count, time.monotonic() + options.seconds, options.stop_file)
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda: results.append(run_connection(options, schedule, urls)))
        for _ in range(options.connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Result(samples=[] if options.samples else None)
    for result in results:
        total.add(result)
    if options.samples:
        lines = (f"{began:.3f} {took * 1000:.3f} {int(fine)}\n" for began, took, fine in sorted(total.samples or []))
        options.samples.write_text("".join(lines), encoding="ascii")
    if len(results) != len(threads):
        total.failures["connection ended by an error of the load generator"] += len(threads) - len(results)
    report = total.report(time.monotonic() - schedule.start)
    return {**report, "paths": dict(total.paths)} if options.by_path else report


def main() -> int:
    """Print the report as JSON; exit 1 when a request failed."""
    report = run(parse_arguments())
    print(json.dumps(report, indent=2))
    return 1 if report["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

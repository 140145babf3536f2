"""Says what is wrong with what was seen, as sentences; nothing is wrong where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.testing.outages.cases import CASES, LONG_CASES, QUESTIONS, Case
from tools.testing.outages.run import CHANGE_SECONDS, PARTS

MIB = 1024 * 1024
# What the codes that do not exist may take of a process (a tenth of its cache), the addresses that asked for them, and
# what any process grows by while it is asked more than ever before.
SCAN_BYTES = 24 * MIB
# One request at a time on each of the visitors' connections.
CONNECTIONS = 8
# A process that is killed takes the clicks along that it had not sent yet: 50 ms' worth, and those under way.
LOST_SECONDS = 1.0
MEANWHILE = {"changed": "302 https://example.org/changed", "disabled": "410", "deleted": "410"}
_OF_API = ("read", "write", "stats")

Seen = Mapping[str, Any]


def wrong(results: Seen) -> list[str]:
    """Return all that is wrong with a run."""
    found = []
    for part in PARTS.keys() & results.keys():
        seen = results[part]
        found += [f"{part}: {words}" for words in wrong_with_visits(part, seen) + wrong_with_counts(part, results)]
        for case in (*CASES, *LONG_CASES):
            if case.name in seen.get("cases", {}):
                found += wrong_with_case(case, seen["cases"][case.name], results["rate"])
    if "stores" in results:
        seen = results["stores"]
        found += (
            wrong_with_hostile(seen["hostile"]) + wrong_with_scan(seen["scan"]) + wrong_with_changes(seen["changes"])
        )
        found += wrong_with_killed(seen["worker"])
    if "processes" in results:
        found += wrong_with_killed(results["processes"]["redirect"])
    return found + wrong_with_end(results["settled"])


def wrong_with_case(case: Case, seen: Seen, rate: float) -> list[str]:
    """Say what was wrong while a store was away, and after it."""
    visits = seen["visits"]
    found = []
    if visits["failed"]:
        found.append(f"{visits['failed']} of {visits['requests']} visitors failed")
    # They come at an even pace; a machine that is busy with other things is late.
    if visits["requests"] < 0.5 * rate * (seen["ended"] - seen["began"]):
        found.append(f"there were only {visits['requests']} visitors in {seen['ended'] - seen['began']:.1f} s")
    for question in QUESTIONS:
        found += [
            f"{question}: {words}"
            for answer in seen["answers"][question]
            for words in wrong_with_answer(answer, case.answers[question], api=question in _OF_API)
        ]
    if case.breaker and not any(figures[case.breaker] for figures in seen["during"].values()):
        found.append(f"every redirect process went on asking {case.breaker}")
    if case.spooled and not spooled(seen):
        found.append("no click went to the disk, so nothing was away")
    if not case.spooled and spooled(seen):
        found.append(f"{spooled(seen):.0f} clicks went to the disk")
    for host, figures in seen["after"].items():
        found += [f"{host}: {words}" for words in wrong_with_figures(figures)]
    if seen["again"] != case.again:
        found.append(f"afterwards the API answers {seen['again']}")
    return [f"{case.name}: {words}" for words in found]


def spooled(seen: Seen) -> float:
    """Return how many clicks went to the disk meanwhile."""
    grown = (figures["spooled"] - seen["before"][host]["spooled"] for host, figures in seen["after"].items())
    return float(sum(grown))


def wrong_with_answer(answer: Seen, status: int, *, api: bool) -> list[str]:
    """Say what is wrong with an answer; one that says that something is away says when to ask again, and how."""
    found = []
    if answer["status"] != status:
        found.append(f"{answer['status']} instead of {status}: {answer['document']}")
    elif status == 503:
        if not answer["retry_after"]:
            found.append("503 without Retry-After")
        if api and answer["kind"] != "application/problem+json":
            found.append(f"503 as {answer['kind']}")
    elif status == 302 and not answer["location"].startswith("https://example.org/"):
        found.append(f"leads to {answer['location']}")
    return found


def wrong_with_figures(figures: Seen) -> list[str]:
    """Say what is wrong with a redirect service that has everything back."""
    found = [f"{name} is not asked again" for name in ("redis", "postgresql") if figures[name]]
    if figures["spool_bytes"]:
        found.append(f"{figures['spool_bytes']:.0f} bytes of clicks are still on the disk")
    if figures["dropped"]:
        found.append(f"{figures['dropped']:.0f} clicks were dropped")
    return found


def wrong_with_visits(part: str, seen: Seen) -> list[str]:
    """Say which visitors of a part should not have failed."""
    failed, most = seen["report"]["failed"], CONNECTIONS if part == "processes" else 0
    return [f"{failed} visitors failed: {seen['report']['failures']}"] if failed > most else []


def wrong_with_counts(part: str, results: Seen) -> list[str]:
    """Say of which links more or fewer clicks were counted than visitors were sent on."""
    seen = results[part]
    found = []
    for code, link in seen["links"].items():
        if link["told"] != link["stored"]:
            found.append(f"{code}: ClickHouse has {link['stored']} clicks, and the API tells of {link['told']}")
        if not link["answered"]:
            found.append(f"{code}: nobody followed it")
        elif part != "processes" and link["stored"] != link["answered"]:
            found.append(f"{code}: {link['answered']} visitors were sent on, and {link['stored']} clicks counted")
    if part == "processes":
        lost = sum(link["answered"] - link["stored"] for link in seen["links"].values())
        most = results["rate"] * LOST_SECONDS / max(1, len(seen["before"]))
        if not -seen["report"]["failed"] <= lost <= most:
            found.append(f"{lost} clicks were lost with a process, where {most:.0f} may be")
    return found


def wrong_with_hostile(seen: Seen) -> list[str]:
    """Say what clients that mean ill were let do."""
    found = []
    slow = seen["slow"]
    if slow["left"]:
        found.append(f"{slow['left']} of {slow['opened']} requests that never end are still waited for")
    if seen["silent"]["left"]:
        found.append(f"{seen['silent']['left']} connections that say nothing are still open")
    if set(slow["ended"]) - {"408", "closed"}:
        found.append(f"requests that never end were answered {slow['ended']}")
    elif "408" not in slow["ended"]:
        found.append(f"no request that never ends was told so: {slow['ended']}")
    for name, statuses in seen["oversize"].items():
        # HTTP has two for it; a connection that is ended is none.
        if not statuses or set(statuses) - {"400", "431"}:
            found.append(f"{name} was answered {statuses}")
    return [f"hostile clients: {words}" for words in found]


def wrong_with_scan(seen: Seen) -> list[str]:
    """Say what a scan of unknown codes did to the processes."""
    found = []
    if set(seen["statuses"]) - {"404", "429"}:
        found.append(f"unknown codes were answered {seen['statuses']}")
    # Those that were refused cost no memory: each comes in another address's name.
    if seen["statuses"].get("404", 0) < 0.9 * seen["count"]:
        found.append(f"of {seen['count']} only {seen['statuses']} were looked up")
    for host, before in seen["before"].items():
        grown = seen["after"][host] - before
        if not before:
            found.append(f"{host} does not say how much memory it has")
        if grown > SCAN_BYTES:
            found.append(f"{host} grew by {grown / MIB:.1f} MiB")
    return [f"the scan: {words}" for words in found]


def wrong_with_changes(seen: Seen) -> list[str]:
    """Say which host served a link as it was, to a question that came a second after the API's answer or later.

    All hosts and the control node have the machine's one clock.
    """
    found = []
    for name, change in seen.items():
        if change["status"] not in (200, 204):
            found.append(f"{name}: the API answered {change['status']}")
        for host, said in change["hosts"].items():
            late = [one for one in said if one["last"] > change["at"] + CHANGE_SECONDS]
            if not late:
                found.append(f"{name}: {host} was not asked any more")
            found += [
                f"{name}: {host} said {one['says']} {one['last'] - change['at']:.2f} s after the change"
                for one in late
                if one["says"] != MEANWHILE[name]
            ]
            if said[0]["says"] == MEANWHILE[name]:
                found.append(f"{name}: {host} never served what was before")
    return found


def wrong_with_killed(seen: Seen) -> list[str]:
    """Say whether a process that was killed did not come back, or was not killed at all."""
    if not seen["before"] or len(seen["after"]) != len(seen["before"]) or set(seen["after"]) & set(seen["before"]):
        return [f"{seen['host']}: processes {seen['before']} were killed, and {seen['after']} run"]
    return []


def wrong_with_end(seen: Seen) -> list[str]:
    """Say what was still on its way when all should have been counted."""
    found = [f"{seen['left']} entries of clicks wait in Redis"] if seen["left"] else []
    for host, figures in seen["figures"].items():
        found += [f"{host}: {words}" for words in wrong_with_figures(figures)]
        if figures["waiting"]:
            found.append(f"{host}: {figures['waiting']:.0f} clicks wait in memory")
    return found


def summary(results: Seen) -> Sequence[Mapping[str, object]]:
    """Return a line for each outage: what visitors saw of it."""
    return [
        {
            "away": name,
            "seconds": f"{seen['ended'] - seen['began']:.1f}",
            "visitors": seen["visits"]["requests"],
            "failed": seen["visits"]["failed"],
            "to the disk": f"{spooled(seen):.0f}",
            **{
                question: "/".join(sorted({str(one["status"]) for one in seen["answers"][question]}))
                for question in QUESTIONS
            },
        }
        for part in PARTS
        for name, seen in results.get(part, {}).get("cases", {}).items()
    ]

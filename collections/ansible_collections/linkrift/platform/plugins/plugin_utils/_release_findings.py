# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Is the fleet ready for the next release? What all hosts together say of it, in one list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._preflight import ERROR, WARNING, Finding
from ansible_collections.linkrift.platform.plugins.plugin_utils._preflight_report import as_shown
from ansible_collections.linkrift.platform.plugins.plugin_utils._status_balancers import what_failed

_UNREACHED = "cannot be reached"


@dataclass(frozen=True)
class Wish:
    """What is to be rolled out, and how much is asked of it.

    Attributes:
        bundle_errors: why a bundle on the control node cannot be used, by its name.
        require_tests: a bundle that was built without its tests is an error.
        abandoned: ids of leases whose runs are dead.
        days: before its end from which on a certificate is worth a warning.
    """

    bundle_errors: Mapping[str, str] = field(default_factory=dict)
    require_tests: bool = False
    abandoned: Collection[str] = ()
    days: int = 21


def findings(hostvars: Mapping[str, Mapping[str, Any]], status: Mapping[str, Any], wish: Wish) -> list[dict[str, str]]:
    """Return all findings.

    Args:
        hostvars: variables by host: `release_preflight_looked` is the result of module release_preflight,
            `release_preflight_postgresql` that of pg_info, `release_preflight_visitors` that of visitor_probe. Hosts
            without them were not looked at.
        status: what filter fleet_status returned; empty: nobody looked at it.
        wish: what is to be rolled out.
    """
    looked = {name: found for name in hostvars if (found := _registered(hostvars[name], "release_preflight_looked"))}
    postgresql = {name: it for name in hostvars if (it := _registered(hostvars[name], "release_preflight_postgresql"))}
    visitors = {name: it for name in hostvars if (it := _registered(hostvars[name], "release_preflight_visitors"))}
    releases = {name: said for each in looked.values() for name, said in (each.get("releases") or {}).items()}
    return [
        *(as_shown("release", Finding("bundle", ERROR, text)) for text in wish.bundle_errors.values()),
        *(as_shown("release", finding) for finding in _of_bundles(releases, wish)),
        *(as_shown(name, finding) for name, each in looked.items() for finding in _of_host(name, each)),
        *(as_shown("postgresql", finding) for finding in _of_postgresql(postgresql, releases, looked.values())),
        *(as_shown("fleet", finding) for finding in _of_fleet(status, wish)),
        *(as_shown(name, finding) for name, each in visitors.items() for finding in _of_visitors(each, wish)),
    ]


def _registered(variables: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    """Return what a task registered; None when it was not there, or had nothing to do."""
    found = variables.get(name)
    return found if found and not found.get("skipped") else None


def _of_bundles(releases: Mapping[str, Mapping[str, Any]], wish: Wish) -> Iterator[Finding]:
    for release, said in releases.items():
        if not said["tests"]:
            yield Finding(
                "tests",
                ERROR if wish.require_tests else WARNING,
                f"{release} does not say that it was tested: build it with its tests (make bundle)",
            )
        if said["dirty"]:
            yield Finding(
                "tests", WARNING, f"{release} was built from changes that are in no commit: nobody else has them"
            )


def _of_host(name: str, looked: Mapping[str, Any]) -> list[Finding]:
    if looked.get("unreachable"):
        said = what_failed(looked)
        return [Finding("ssh", ERROR, f"{said}. Bring it back, or leave it out with -e without={name}")]
    if "findings" not in looked:
        return [Finding("module", ERROR, what_failed(looked))]
    return [Finding(**found) for found in looked["findings"]]


def _of_postgresql(
    answers: Mapping[str, Mapping[str, Any]],
    releases: Mapping[str, Mapping[str, Any]],
    looked: Iterable[Mapping[str, Any]],
) -> Iterator[Finding]:
    """Compare what hosts are going to ask of PostgreSQL with what it says."""
    for host, answer in answers.items():
        if "schema_level" not in answer:
            yield Finding("postgresql", ERROR, f"it cannot be asked from {host}: {what_failed(answer)}")
            continue
        if answer["dirty"]:
            yield Finding(
                "schema", ERROR, f"migration {answer['schema_level']} was begun and not finished: see module pg_migrate"
            )
        for release, said in releases.items():
            yield from _of_schema(release, said, answer["schema_level"], answer["floor"])
        yield from _of_connections(answer, [each for host_ in looked for each in host_.get("connections") or ()])


def _of_schema(release: str, said: Mapping[str, Any], level: int, floor: int) -> Iterator[Finding]:
    if said["schema_level"] < floor:
        yield Finding(
            "schema",
            ERROR,
            f"{release} is made for schema level {said['schema_level']}, and the database (level {level}) serves "
            f"releases of level {floor} and newer only",
        )
    elif said["schema_level"] > level and said["schema_floor"] > floor:
        yield Finding(
            "schema",
            ERROR,
            f"{release} has a contract migration that is not applied: after it, releases below level "
            f"{said['schema_floor']} do not work. A rollout applies none: do that by itself when no such one is live",
        )


def _of_connections(answer: Mapping[str, Any], pools: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Add up what both slots of every host may open."""
    needed: dict[str, int] = {}
    for pool in pools:
        needed[pool["user"]] = needed.get(pool["user"], 0) + pool["connections"]
    others = {user: count for user, count in answer["in_use"].items() if user not in needed}
    room = answer["max_connections"] - answer["reserved_connections"] - sum(others.values())
    if sum(needed.values()) > room:
        parts = ", ".join(f"{user} {count}" for user, count in sorted({**needed, **others}.items()))
        yield Finding(
            "connections",
            ERROR,
            f"both slots of all hosts may open {sum(needed.values())} connections, and {room} of "
            f"{answer['max_connections']} are left for them ({parts}): raise postgresql_max_connections, or lower "
            "linkrift_connections or linkrift_processes",
        )
    for user, count in sorted(needed.items()):
        limit = answer["limits"].get(user)
        if limit is not None and count > limit:
            yield Finding(
                "connections",
                ERROR,
                f"both slots of all hosts may open {count} connections as {user}, whose limit is {limit}: "
                f"ALTER ROLE {user} CONNECTION LIMIT",
            )


def _of_fleet(status: Mapping[str, Any], wish: Wish) -> Iterator[Finding]:
    """Tell what is wrong with what is live, and who is at work. Before the first installation there is nothing."""
    if not status or not (status["fleet"] or any(row["slot"] for row in status["rows"])):
        return
    for text in status["findings"]:
        # That is told of the host itself already.
        if _UNREACHED not in text:
            yield Finding("fleet", ERROR, f"{text}. Repeat the playbook that was interrupted, or see status.yml")
    for text in status["notes"]:
        if text.endswith(": drained"):
            yield Finding("fleet", WARNING, f"{text}: bring it back (undrain.yml), or leave it out with -e without=…")
    for lease in status["leases"]:
        if lease["held"] and lease["id"] not in wish.abandoned:
            yield Finding(
                "lock",
                ERROR,
                f"{lease['by']} is changing the fleet ({lease['purpose']} {lease['id']}), until {lease['until']}: wait",
            )
        elif lease["held"]:
            yield Finding(
                "lock",
                WARNING,
                f"{lease['purpose']} {lease['id']} died while it changed the fleet: repeat it, or deploy anew",
            )


def _of_visitors(probed: Mapping[str, Any], wish: Wish) -> Iterator[Finding]:
    if "problems" not in probed:
        yield Finding("visitors", ERROR, f"what visitors get {what_failed(probed)}")
        return
    for problem in probed["problems"]:
        yield Finding("visitors", ERROR, problem)
    for site in probed["sites"]:
        left = site["certificate_days"]
        if left is not None and left < wish.days:
            text = f"the certificate that visitors of {site['name']} are shown ends in {left} days: renew it"
            yield Finding("certificates", WARNING, text)

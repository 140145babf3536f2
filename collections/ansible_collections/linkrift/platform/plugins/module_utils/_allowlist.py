# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The list of networks that may connect to HAProxy and are believed about visitors' addresses.

It is data: a file that HAProxy loads, with the time at which its content was looked up. Who controls the list controls
what is believed, so a list that looks wrong is refused, whoever published it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._certificates import iso
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import Haproxy, HaproxyDownError, HaproxyError
from ansible_collections.linkrift.platform.plugins.module_utils._paths import is_ours, write_atomically

Reload = Callable[[], None]

MAX_BYTES = 64 * 1024
MAX_NETWORKS = 1000
SHORTEST = {4: 8, 6: 16}
"""Shortest prefix of one network."""
LARGEST = {4: 2**26, 6: 2**112}
"""Most addresses of all networks together: a 64th of IPv4, a /16 of IPv6. Cloudflare has about 2**21 and 2**100."""

_AS_OF = re.compile(r"^# as of: (\S+)$", re.MULTILINE)
_SOURCE = re.compile(r"^# source: (.+)$", re.MULTILINE)


class AllowlistError(Exception):
    """A list is not what such a list must be; nothing was changed."""


@dataclass(frozen=True)
class Allowlist:
    """Networks, and when and where they were looked up."""

    networks: tuple[str, ...]
    as_of: datetime.datetime
    source: str

    @property
    def text(self) -> str:
        """What is in the file."""
        head = (
            "# Who may connect and is believed about visitors' addresses: docs/edge.md. Written by Ansible, module\n"
            "# linkrift.platform.cloudflare_allowlist; refreshed by playbooks/allowlist.yml.\n"
        )
        return f"{head}# as of: {iso(self.as_of)}\n# source: {self.source}\n" + "\n".join(self.networks) + "\n"

    def age_days(self, now: datetime.datetime) -> float:
        """Return how old it is."""
        return (now - self.as_of).total_seconds() / 86400


def read_time(text: str) -> datetime.datetime:
    """Read a day (its beginning, UTC) or a time in ISO form.

    Raises:
        AllowlistError: it is none.
    """
    try:
        parsed = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as error:
        raise AllowlistError(f"{text!r} is no time such as 2026-01-31 or 2026-01-31T12:00:00Z") from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.timezone.utc)


def lines_of(text: str) -> list[str]:
    """Return the lines of a fetched list, without empty ones.

    Raises:
        AllowlistError: it is too large to be such a list.
    """
    if len(text.encode()) > MAX_BYTES:
        raise AllowlistError(f"the list is larger than {MAX_BYTES} bytes")
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_networks(given: Iterable[str], families: Sequence[int] = (4, 6)) -> list[str]:
    """Return the networks, each once, IPv4 first.

    Args:
        given: networks such as `192.0.2.0/24`.
        families: IP versions that must be there, each with at least one network.

    Raises:
        AllowlistError: something is no network, is too large, or there are none or too many.
    """
    networks: set[ipaddress.IPv4Network | ipaddress.IPv6Network] = set()
    for text in given:
        try:
            if "/" not in text:
                raise ValueError(f"{text!r} has no prefix length")
            network = ipaddress.ip_network(text)
        except ValueError as error:
            raise AllowlistError(f"not a network: {str(error)[:120]}") from error
        if network.prefixlen < SHORTEST[network.version]:
            raise AllowlistError(
                f"{network} is too large: at least /{SHORTEST[network.version]} is needed for IPv{network.version}"
            )
        networks.add(network)
    if len(networks) > MAX_NETWORKS:
        raise AllowlistError(f"{len(networks)} networks are too many: at most {MAX_NETWORKS}")
    for family in families:
        size = _size(networks, family)
        if not size:
            raise AllowlistError(f"there is no IPv{family} network")
        if size > LARGEST[family]:
            raise AllowlistError(f"the IPv{family} networks are too large together: {size} addresses")
    return [
        str(network)
        for network in sorted(networks, key=lambda each: (each.version, each.network_address, each.prefixlen))
    ]


def _size(networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network], family: int) -> int:
    """Return how many addresses there are in all, each counted once."""
    if family == 4:
        four = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
        return sum(network.num_addresses for network in ipaddress.collapse_addresses(four))
    six = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    return sum(network.num_addresses for network in ipaddress.collapse_addresses(six))


def check_shrink(before: Iterable[str], after: Iterable[str]) -> None:
    """See that a list has not lost more than half of its addresses: that would rather be an accident.

    Raises:
        AllowlistError: it has.
    """
    old, new = ([ipaddress.ip_network(text) for text in texts] for texts in (before, after))
    for family in (4, 6):
        was, is_now = _size(old, family), _size(new, family)
        if is_now * 2 < was:
            raise AllowlistError(
                f"the list would lose {100 - is_now * 100 // was} % of its IPv{family} addresses;"
                " if that is right, say so with force"
            )


def parse(text: str) -> Allowlist:
    """Read a file that was written by this module.

    Raises:
        AllowlistError: it is none.
    """
    as_of, source = _AS_OF.search(text), _SOURCE.search(text)
    networks = [line for line in text.splitlines() if line and not line.startswith("#")]
    if not as_of:
        raise AllowlistError("it does not say as of when it is")
    return Allowlist(tuple(check_networks(networks)), read_time(as_of[1]), source[1] if source else "")


@dataclass(frozen=True)
class Outcome:
    """What was done, or would be."""

    changed: bool
    kept_newer: bool
    """The file on the host is newer than what was given, and stays."""
    how: str
    """How HAProxy got it: `runtime`, `reload`, or empty: it had it, or does not run with this file."""
    before: str
    after: Allowlist
    added: list[str]
    removed: list[str]


@dataclass(frozen=True)
class Refresh:
    """Brings a list into the file and into the running HAProxy.

    Attributes:
        path: the file that the configuration names.
        haproxy: the running HAProxy.
        reload: has HAProxy reloaded, where it does not take the list otherwise.
        force: take a list that is much smaller, or older than the one on the host.
    """

    path: Path
    haproxy: Haproxy
    reload: Reload
    force: bool = False

    def plan(self, given: Allowlist) -> Outcome:
        """Say what is to do.

        Raises:
            AllowlistError: the list must not be taken.
            HaproxyError: HAProxy runs, but does not answer.
        """
        text = ""
        with contextlib.suppress(FileNotFoundError):
            text = self.path.read_text(encoding="utf-8")
        present: Allowlist | None = None
        with contextlib.suppress(AllowlistError):
            present = parse(text) if text else None
        wanted, kept = given, False
        if present and not self.force:
            if present.as_of > given.as_of:
                wanted, kept = present, True
            else:
                check_shrink(present.networks, given.networks)
        loaded: list[str] | None = None
        with contextlib.suppress(HaproxyDownError):
            loaded = self.haproxy.patterns(str(self.path))
        process_differs = loaded is not None and set(loaded) != set(wanted.networks)
        was = set(present.networks) if present else set()
        return Outcome(
            changed=text != wanted.text or process_differs or not is_ours(self.path, 0o644),
            kept_newer=kept,
            how="runtime" if process_differs else "",
            before=text,
            after=wanted,
            added=[network for network in wanted.networks if network not in was],
            removed=sorted(was - set(wanted.networks)),
        )

    def apply(self, given: Allowlist) -> Outcome:
        """Bring the list in: HAProxy first, which refuses what it cannot use, then the file.

        Raises:
            AllowlistError: the list must not be taken, or HAProxy does not take it.
            HaproxyError: HAProxy runs, but does not answer.
            OSError: the file cannot be written.
        """
        outcome = self.plan(given)
        how = outcome.how
        if how:
            try:
                self.haproxy.replace_patterns(str(self.path), outcome.after.networks)
            except HaproxyError:
                how = "reload"
        if outcome.before != outcome.after.text or not is_ours(self.path, 0o644):
            write_atomically(self.path, outcome.after.text, 0o644)
        if how == "reload":
            self.reload()
        elif how and set(self.haproxy.patterns(str(self.path)) or []) != set(outcome.after.networks):
            raise AllowlistError("HAProxy took the list and shows another one; run this again")
        return Outcome(**{**outcome.__dict__, "how": how})


def metrics(allowlist: Allowlist) -> str:
    """Write the age of a list in Prometheus' text format: `time() -` this is how old it is."""
    name = "linkrift_allowlist_as_of_seconds"
    return (
        f"# HELP {name} Unix time as of which the list of networks that are believed is.\n# TYPE {name} gauge\n"
        f'{name}{{list="cloudflare"}} {int(allowlist.as_of.timestamp())}\n'
        "# HELP linkrift_allowlist_networks How many networks it has.\n# TYPE linkrift_allowlist_networks gauge\n"
        f'linkrift_allowlist_networks{{list="cloudflare"}} {len(allowlist.networks)}\n'
    )

"""The rules of ufw as its own words: which command opens what, which rules there are, what has to change."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$")
_COMMENT = re.compile(r" comment '[^']*'$")
_PREFIX = "ufw "


class FirewallError(ValueError):
    """A rule that cannot be, or an answer of ufw that is not understood."""


@dataclass(frozen=True)
class Rule:
    """What one `ufw allow` opens.

    Attributes:
        name: what it is for; ufw keeps it as the rule's comment.
        ports: TCP ports; none for VRRP, which has none.
        source: network or address that may connect; None for everybody, over IPv4 and IPv6.
        protocol: `tcp` or `vrrp`.
    """

    name: str
    ports: tuple[int, ...]
    source: str | None
    protocol: str = "tcp"

    @property
    def words(self) -> list[str]:
        """The rule as `ufw show added` words it, which is also how it is added and deleted."""
        if self.protocol == "vrrp":
            return ["allow", "from", str(self.source), "proto", "vrrp"]
        ports = ",".join(map(str, self.ports))
        what = (
            [f"{ports}/tcp"]
            if self.source is None
            else ["from", self.source, "to", "any", "port", ports, "proto", "tcp"]
        )
        return ["allow", *what]

    @property
    def line(self) -> str:
        """The line that `ufw show added` prints for it, without its first word."""
        return f"{' '.join(self.words)} comment '{self.name}'"


def parse_rules(rules: Iterable[Mapping[str, Any]]) -> list[Rule]:
    """Turn a module's parameter into rules, one for each source; what is given twice counts once.

    Args:
        rules: dictionaries of `name`, `ports`, `sources` and `protocol` (without one: `tcp`); a source is an address, a
            network or `any`.

    Raises:
        FirewallError: a name, port or source is not acceptable; the message names the rule.
    """
    parsed: dict[str, Rule] = {}
    for rule in rules:
        name = rule["name"]
        if not _NAME.match(name):
            raise FirewallError(f"rule '{name}': a name has letters, digits, spaces, dots, dashes and underscores only")
        protocol = rule.get("protocol") or "tcp"
        ports = tuple(sorted(set(rule["ports"])))
        if protocol == "vrrp":
            if ports or "any" in rule["sources"]:
                raise FirewallError(f"rule '{name}': vrrp has no ports, and comes from hosts that are known")
        elif not ports or not all(0 < port < 65536 for port in ports):
            raise FirewallError(f"rule '{name}': ports are numbers from 1 to 65535, got {list(ports)}")
        for source in rule["sources"]:
            one = Rule(name, ports, None if source == "any" else _network(name, source), protocol)
            parsed.setdefault(" ".join(one.words), one)
    return list(parsed.values())


def _network(name: str, source: str) -> str:
    """Return a source as ufw writes it."""
    try:
        network = ipaddress.ip_network(source, strict=False)
    except ValueError as error:
        raise FirewallError(
            f"rule '{name}': the source is neither an address nor a network nor 'any': {error}"
        ) from error
    if network.prefixlen == 0:
        raise FirewallError(f"rule '{name}': {source} is everybody of one address family; say 'any' for both")
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def parse_added(output: str) -> list[str]:
    """Return the rules of `ufw show added`, without the word `ufw`."""
    return [line.strip().removeprefix(_PREFIX) for line in output.splitlines() if line.strip().startswith(_PREFIX)]


def without_comment(line: str) -> str:
    """Return a rule of `ufw show added` without its comment, which does not tell rules apart."""
    return _COMMENT.sub("", line)


def compare(wanted: Sequence[Rule], present: Sequence[str]) -> tuple[list[Rule], list[str]]:
    """Return the rules to add (or to give another comment), and those to delete (without comments)."""
    there = set(present)
    bodies = {" ".join(rule.words) for rule in wanted}
    to_add = [rule for rule in wanted if rule.line not in there]
    to_delete = [body for body in map(without_comment, present) if body not in bodies]
    return to_add, to_delete


def parse_settings(text: str) -> dict[str, str]:
    """Return the assignments of a file such as /etc/default/ufw, without quotes, in lower case."""
    settings: dict[str, str] = {}
    for line in text.splitlines():
        key, separator, value = line.strip().partition("=")
        if separator and not key.startswith("#"):
            settings[key] = value.strip().strip("\"'").lower()
    return settings

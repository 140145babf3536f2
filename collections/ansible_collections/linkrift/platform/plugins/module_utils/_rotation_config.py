# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backends file: what it says, how it is written, which states it remembers."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import DIGEST_VARIABLE, Key

SLOTS = ("blue", "green")
STATES = ("ready", "drain", "maint")
BALANCE = ("roundrobin", "leastconn", "random")
WEIGHT = 100
"""Weight of a server that takes its full share; HAProxy allows 1 to 256."""

_PREFIX = "linkrift_"
_DEFAULTS = "linkrift_backends"
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")
_DURATION = re.compile(r"[1-9][0-9]*(ms|s|m)\Z")
_URI = re.compile(r"/[!-~]*\Z")
_FILE = re.compile(r"/[A-Za-z0-9._/@+-]+\Z")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_SERVER_LINE = re.compile(
    r"\s+server (?P<name>\S+) (?P<address>\S+) weight (?P<weight>\d+)(?P<disabled> disabled)?\s*\Z"
)


class TopologyError(Exception):
    """The description of the services, or a change, is wrong; the text says where and what is expected."""


@dataclass(frozen=True)
class Check:
    """How a backend's servers are checked; the times are HAProxy's, with a unit.

    Every switch waits for one fresh check, and a lost host takes requests until `fall` of them failed. So they are
    faster than the usual 2 to 5 s. HAProxy comes by a server in maint at the pace of `inter`, too, whatever the others
    are: that is what a switch waits for at most. A check has as long to connect. Four that fail in a row make it out
    of a second or so without an answer that a server is down; one that vanishes is out after two.
    An idle slot is in maint and not checked at all, so this costs a live slot four cheap requests a second.
    """

    path: str = "/health"
    inter: str = "250ms"
    fastinter: str = "250ms"
    downinter: str = "250ms"
    timeout: str = "1s"
    fall: int = 4
    rise: int = 1

    @property
    def words(self) -> str:
        """The words of HAProxy's `server` line."""
        return (
            f"check inter {self.inter} fastinter {self.fastinter} downinter {self.downinter}"
            f" fall {self.fall} rise {self.rise}"
        )


@dataclass(frozen=True)
class Timeouts:
    """How long a backend waits for its servers; HAProxy's notation, with a unit."""

    connect: str = "1s"
    server: str = "30s"
    queue: str = "5s"


@dataclass(frozen=True)
class Tls:
    """How a backend speaks TLS with its servers, requests and checks alike.

    Attributes:
        ca_file: authorities that are believed, a file on the balancer.
        verify_host: the name that every server's certificate must carry.
    """

    ca_file: str
    verify_host: str

    @property
    def words(self) -> str:
        """The words of HAProxy's `server` line."""
        # With a name sent (SNI) HAProxy looks for that one in the certificate; verifyhost says the same for whatever
        # connection sends none.
        return (
            f"ssl ssl-min-ver TLSv1.2 verify required ca-file {self.ca_file} verifyhost {self.verify_host}"
            f" sni str({self.verify_host}) check-ssl check-sni {self.verify_host}"
        )


@dataclass(frozen=True)
class Server:
    """One slot of one host."""

    host: str
    slot: str
    address: str
    """Address and port as HAProxy's `server` line takes them."""

    @property
    def name(self) -> str:
        """`<host>-<slot>`."""
        return f"{self.host}-{self.slot}"


@dataclass(frozen=True)
class Backend:
    """A service as HAProxy serves it."""

    service: str
    servers: tuple[Server, ...]
    balance: str = "roundrobin"
    retries: int = 3
    check: Check = field(default_factory=Check)
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: Tls | None = None
    """None: plain HTTP."""

    @property
    def name(self) -> str:
        """`linkrift_<service>`."""
        return _PREFIX + self.service


@dataclass(frozen=True)
class Remembered:
    """What a backends file says of a server."""

    state: str
    address: str


@dataclass(frozen=True)
class Change:
    """The wish for one server."""

    service: str
    host: str
    slot: str
    state: str

    @property
    def key(self) -> Key:
        """The server it names."""
        return (_PREFIX + self.service, f"{self.host}-{self.slot}")


def is_ours(backend: str) -> bool:
    """Tell whether a backend is one of this file's; an operator may have others."""
    return backend.startswith(_PREFIX)


def service_of(backend: str) -> str:
    """Return the service that a backend serves."""
    return backend.removeprefix(_PREFIX)


def parse_services(services: Mapping[str, Any]) -> tuple[Backend, ...]:
    """Turn the module's `services` into backends, in a fixed order whatever the order of the inventory.

    Raises:
        TopologyError: something is missing, unknown or malformed.
    """
    if not services:
        raise TopologyError("services: at least one service is needed")
    return tuple(_parse_backend(service, services[service]) for service in sorted(services))


def _parse_backend(service: str, given: object) -> Backend:
    where = f"services.{service}"
    if not _NAME.match(service):
        raise TopologyError(f"{where}: a service's name is lower-case letters, digits and dashes")
    values = _mapping(where, given, ("servers", "balance", "retries", "check", "timeouts", "tls"))
    servers: list[Server] = []
    given_servers = values.get("servers")
    if not isinstance(given_servers, list) or not given_servers:
        raise TopologyError(f"{where}.servers: a list of at least one host is needed")
    for index, host in enumerate(given_servers):
        servers.extend(_parse_host(f"{where}.servers[{index}]", host))
    names = [server.name for server in servers]
    addresses = [server.address for server in servers]
    for kind, found in (("host", names), ("address and port", addresses)):
        doubled = sorted({value for value in found if found.count(value) > 1})
        if doubled:
            raise TopologyError(f"{where}.servers: the same {kind} is given twice: {', '.join(doubled)}")
    balance = values.get("balance", "roundrobin")
    if balance not in BALANCE:
        raise TopologyError(f"{where}.balance: {balance!r} is not one of {', '.join(BALANCE)}")
    return Backend(
        service=service,
        servers=tuple(sorted(servers, key=lambda server: (server.host, server.slot))),
        balance=balance,
        retries=_count(f"{where}.retries", values.get("retries", 3), minimum=0),
        check=_parse_check(f"{where}.check", values.get("check", {})),
        timeouts=_parse_timeouts(f"{where}.timeouts", values.get("timeouts", {})),
        tls=_parse_tls(f"{where}.tls", values.get("tls", {})),
    )


def _parse_host(where: str, given: object) -> list[Server]:
    values = _mapping(where, given, ("host", "address", "ports"))
    host = str(values.get("host", ""))
    if not _NAME.match(host):
        raise TopologyError(f"{where}.host: {host!r} is not a host name in lower case")
    try:
        address = ipaddress.ip_address(str(values.get("address", "")))
    except ValueError as error:
        # A name would be looked up when HAProxy starts, which then fails when DNS does.
        raise TopologyError(f"{where}.address: {values.get('address')!r} is not an IPv4 or IPv6 address") from error
    ports = _mapping(f"{where}.ports", values.get("ports", {}), SLOTS)
    if set(ports) != set(SLOTS):
        raise TopologyError(f"{where}.ports: a port is needed for each of {', '.join(SLOTS)}")
    bracketed = f"[{address}]" if address.version == 6 else str(address)
    return [
        Server(
            host=host, slot=slot, address=f"{bracketed}:{_count(f'{where}.ports.{slot}', ports[slot], maximum=65535)}"
        )
        for slot in SLOTS
    ]


def _parse_check(where: str, given: object) -> Check:
    values = _mapping(where, given, tuple(Check.__dataclass_fields__))
    path = str(values.get("path", Check.path))
    if not _URI.match(path):
        raise TopologyError(f"{where}.path: {path!r} is not a path that starts with / and has no space")
    times = {
        name: _duration(f"{where}.{name}", values.get(name, getattr(Check, name)))
        for name in ("inter", "fastinter", "downinter", "timeout")
    }
    fall = _count(f"{where}.fall", values.get("fall", Check.fall))
    rise = _count(f"{where}.rise", values.get("rise", Check.rise))
    return Check(path=path, fall=fall, rise=rise, **times)


def _parse_timeouts(where: str, given: object) -> Timeouts:
    values = _mapping(where, given, tuple(Timeouts.__dataclass_fields__))
    return Timeouts(
        **{
            name: _duration(f"{where}.{name}", values.get(name, getattr(Timeouts, name)))
            for name in Timeouts.__dataclass_fields__
        }
    )


def _parse_tls(where: str, given: object) -> Tls | None:
    values = _mapping(where, given, tuple(Tls.__dataclass_fields__))
    if not values:
        return None
    ca_file, verify_host = (str(values.get(name, "")) for name in Tls.__dataclass_fields__)
    if not _FILE.match(ca_file):
        raise TopologyError(f"{where}.ca_file: {ca_file!r} is not the path of a file, from / on")
    if not _DNS_NAME.match(verify_host):
        raise TopologyError(f"{where}.verify_host: {verify_host!r} is not a name in lower case")
    return Tls(ca_file, verify_host)


def _mapping(where: str, given: object, allowed: Iterable[str]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise TopologyError(f"{where}: a mapping is needed")
    unknown = sorted(str(key) for key in given if key not in allowed)
    if unknown:
        raise TopologyError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(allowed)}")
    return dict(given)


def _duration(where: str, value: object) -> str:
    if not isinstance(value, str) or not _DURATION.match(value):
        raise TopologyError(f"{where}: {value!r} is not a time such as 250ms, 5s or 1m")
    return value


def _count(where: str, value: object, minimum: int = 1, maximum: int = 1000) -> int:
    # Values that went through a template arrive as text.
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise TopologyError(f"{where}: {value!r} is not a whole number from {minimum} to {maximum}")
    return value


def parse_changes(given: Iterable[Mapping[str, Any]], backends: Iterable[Backend]) -> tuple[Change, ...]:
    """Turn the module's `changes` into wishes for servers of these backends.

    Raises:
        TopologyError: a change names no known server, or one server twice.
    """
    known = {(backend.name, server.name) for backend in backends for server in backend.servers}
    changes: list[Change] = []
    for index, entry in enumerate(given):
        change = Change(**{name: str(entry.get(name)) for name in ("service", "host", "slot", "state")})
        if change.state not in STATES:
            raise TopologyError(f"changes[{index}].state: {change.state!r} is not one of {', '.join(STATES)}")
        if change.key not in known:
            names = ", ".join(sorted(f"{service_of(backend)}/{server}" for backend, server in known))
            raise TopologyError(
                f"changes[{index}]: {change.service} has no slot {change.slot} on host {change.host}; known are {names}"
            )
        if change.key in {earlier.key for earlier in changes}:
            raise TopologyError(f"changes[{index}]: {change.service} {change.key[1]} is named twice")
        changes.append(change)
    return tuple(changes)


def digest(backends: Iterable[Backend]) -> str:
    """Return a digest of everything in the file that only a reload can change: all but the servers' states."""
    return hashlib.sha256(_body(backends, {}).encode()).hexdigest()[:16]


def digest_in(text: str) -> str | None:
    """Return the digest that a backends file names; None for a text that has none."""
    match = re.search(rf"^\s+setenv {DIGEST_VARIABLE} (\S+)$", text, re.MULTILINE)
    return match[1] if match else None


def render(backends: tuple[Backend, ...], states: Mapping[Key, str]) -> str:
    """Return the backends file: the same text for the same services and states, whatever the order given.

    Args:
        backends: the services.
        states: server to `ready`, `drain` or `maint`; one not named is in `maint`.
    """
    return (
        "# Written by the Ansible module linkrift.platform.rotation and by nothing else: a change by hand is lost.\n"
        "# A server with `disabled` is in maint, one with `weight 0` in drain, any other is ready.\n"
        "global\n"
        "    # Names these backends without their states; read back with `show env` to know which file is loaded.\n"
        f"    setenv {DIGEST_VARIABLE} {digest(backends)}\n"
        "\n"
        f"{_body(backends, states)}"
    )


def _body(backends: Iterable[Backend], states: Mapping[Key, str]) -> str:
    sections = [f"defaults {_DEFAULTS}\n    mode http\n    log global\n    option redispatch 1\n"]
    sections.extend(_section(backend, states) for backend in backends)
    return "\n".join(sections)


def _section(backend: Backend, states: Mapping[Key, str]) -> str:
    check, timeouts = backend.check, backend.timeouts
    tls = f" {backend.tls.words}" if backend.tls else ""
    lines = [
        f"backend {backend.name} from {_DEFAULTS}",
        f"    balance {backend.balance}",
        f"    timeout connect {timeouts.connect}",
        f"    timeout server {timeouts.server}",
        f"    timeout queue {timeouts.queue}",
        f"    timeout check {check.timeout}",
        f"    retries {backend.retries}",
        # A visitor's first request never goes over a connection that the server may just be closing.
        "    http-reuse safe",
        "    option httpchk",
        f"    http-check send meth GET uri {check.path} ver HTTP/1.1 hdr Host localhost hdr User-Agent haproxy-check",
        "    http-check expect status 200",
        # A standby slot answers 404: no new requests, and it is not an alert.
        "    http-check disable-on-404",
        f"    default-server {check.words}{tls}",
    ]
    for server in backend.servers:
        state = states.get((backend.name, server.name), "maint")
        weight = 0 if state == "drain" else WEIGHT
        disabled = " disabled" if state == "maint" else ""
        lines.append(f"    server {server.name} {server.address} weight {weight}{disabled}")
    return "\n".join(lines) + "\n"


def tls_in(text: str) -> dict[str, bool]:
    """Read of a backends file which backends it has, and whether each speaks TLS with its servers."""
    backend = ""
    found: dict[str, bool] = {}
    for line in text.splitlines():
        words = line.split()
        if line[:1].strip() and words:
            backend = words[1] if words[0] == "backend" and len(words) > 1 else ""
        elif backend and words[:1] == ["default-server"]:
            found[backend] = "ssl" in words
    return found


def parse_file(text: str) -> dict[Key, Remembered]:
    """Read which state and address a backends file gives each server; lines that it does not know say nothing."""
    backend = ""
    found: dict[Key, Remembered] = {}
    for line in text.splitlines():
        words = line.split()
        if line[:1].strip() and words:
            backend = words[1] if words[0] == "backend" and len(words) > 1 else ""
            continue
        match = _SERVER_LINE.match(line)
        if backend and match:
            state = "maint" if match["disabled"] else "drain" if int(match["weight"]) == 0 else "ready"
            found[(backend, match["name"])] = Remembered(state=state, address=match["address"])
    return found

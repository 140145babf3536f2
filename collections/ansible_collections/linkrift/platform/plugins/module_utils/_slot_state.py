# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the slots of a service are doing: read from links, units and files each time, never from a record of it.

A slot is *live* when the link `live` names it. That link is the one thing a commit changes in one step: `current`
(the release of the live slot) and the units that start at boot follow it, and cannot tell two slots that run the
same release with different settings apart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils import _env as env
from ansible_collections.linkrift.platform.plugins.module_utils._gate import (
    Answer,
    Clock,
    Identity,
    Response,
    SystemClock,
    ask,
    fetch,
)
from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    PORTS,
    SLOTS,
    Layout,
    linked_release,
    unit_name,
)
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Systemd, Unit

_ANY_ADDRESS = {"": "127.0.0.1", str(ipaddress.IPv4Address(0)): "127.0.0.1", "::": "::1"}
"""Where to ask a service that listens everywhere."""


class SlotError(Exception):
    """A slot cannot be brought into the wished state; the message says why and what to do next."""

    def __init__(self, message: str, **evidence: object) -> None:
        super().__init__(message)
        self.evidence = evidence


@dataclass(frozen=True)
class Gates:
    """How patient and how strict gates are; times in seconds."""

    deadline: float = 60.0
    successes: int = 3
    interval: float = 0.25
    timeout: float = 5.0
    stop_deadline: float = 90.0
    memory_bound: float | None = None
    """MiB that a slot's processes may have; None: nine tenths of what its unit may have."""
    error_rate: float = 0.0
    """Lines of level error or worse that a slot may write, a minute."""
    overdue: float = 15.0
    """Seconds that a worker which is watched may be late to store the clicks that it took."""


@dataclass
class Host:
    """A service on a host, and how to reach everything about it."""

    service: str
    layout: Layout = field(default_factory=Layout)
    systemd: Systemd = field(default_factory=Systemd)
    clock: Clock = field(default_factory=SystemClock)
    gates: Gates = field(default_factory=Gates)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = ""
    """Where health is asked for; empty: where the service listens, by its environment."""
    by: str = "root"
    progress: Callable[[str], None] = lambda _name: None
    """Called with the name of each step before it is done."""

    @property
    def is_worker(self) -> bool:
        """Workers take no traffic: they are paused or they work, and only one of them works."""
        return self.service == "worker"

    def port(self, slot: str) -> int:
        """Return a slot's port."""
        return self.ports.get(slot) or PORTS[self.service][slot]

    def unit(self, slot: str) -> str:
        """Return the name of a slot's unit."""
        return unit_name(self.service, slot)

    @property
    def template(self) -> Path:
        """Return the unit file both slots share."""
        return self.layout.root / "etc/systemd/system" / f"linkrift-{self.service}@.service"

    @property
    def live_link(self) -> Path:
        """Return the link that names the live slot."""
        return self.layout.base / self.service / "live"

    @property
    def drained_mark(self) -> Path:
        """Return the file that says that the service is drained on this host: it is not admitted until it goes."""
        return self.layout.ledgers.parent / self.service / "drained"

    @property
    def lock(self) -> Path:
        """Return the lock that lets one run at a time work on this service."""
        return self.layout.ledgers.parent / self.service / "lock"

    @property
    def key_file(self) -> Path:
        """Return where the key of configuration digests is kept."""
        return self.layout.ledgers.parent / "digest.key"

    def ask(self, slot: str, path: str, variables: Mapping[str, str]) -> Answer:
        """Ask a slot's process, by what its environment says of where it listens."""
        return ask(self.health_address(variables), self.port(slot), path, self.gates.timeout, self.identity(variables))

    def fetch(self, slot: str, path: str, variables: Mapping[str, str], headers: Mapping[str, str]) -> Response:
        """Send a slot's process a request, as a balancer would."""
        identity = self.identity(variables)
        return fetch(self.health_address(variables), self.port(slot), path, self.gates.timeout, identity, headers)

    def health_address(self, variables: Mapping[str, str]) -> str:
        """Return the address to ask for health, for a slot that runs with these variables."""
        if self.address:
            return self.address
        bound = variables.get(f"LINKRIFT_{self.service.upper()}_HOST", "")
        return _ANY_ADDRESS.get(bound, bound)

    def identity(self, variables: Mapping[str, str]) -> Identity | None:
        """Return what a slot that runs with these variables proves by TLS; None: it speaks plain HTTP.

        Without a name for it, its certificate must be for the address.
        """
        if not variables.get("LINKRIFT_TLS_CERTIFICATE"):
            return None
        name = variables.get("LINKRIFT_TLS_NAME") or self.health_address(variables)
        return Identity(name, self.layout.authorities)


@dataclass(frozen=True)
class SlotView:
    """One slot, as it is."""

    slot: str
    release: str | None
    unit: Unit
    admitted: bool
    config: env.Config | None
    variables: Mapping[str, str]
    """Its pinned environment; empty when it has none, or a malformed one."""
    live: bool

    @property
    def state(self) -> str:
        """Return `live`, `idle` (stopped), `warm` (admitted, so it can take traffic) or `candidate` (being checked)."""
        if self.live:
            return "live"
        if self.unit.stopped:
            return "idle"
        return "warm" if self.admitted else "candidate"

    def runs(self, release: str, config: env.Config) -> bool:
        """Tell whether it runs, or is about to run, exactly this."""
        return not self.unit.stopped and self.release == release and self.config == config


@dataclass(frozen=True)
class ServiceView:
    """Both slots of a service, as they are."""

    slots: Mapping[str, SlotView]
    drained: bool = False
    """Somebody drained the host: the live slot stays without admission, through reboots and reruns."""

    @property
    def live(self) -> SlotView | None:
        """Return the live slot; None before the first commit."""
        return next((view for view in self.slots.values() if view.live), None)

    def __getitem__(self, slot: str) -> SlotView:
        return self.slots[slot]


def survey(host: Host) -> ServiceView:
    """Look at a service's slots.

    Raises:
        SystemdError: systemd cannot be asked.
        OSError: a file cannot be read.
    """
    live = live_slot(host)
    return ServiceView({slot: _look(host, slot, live=slot == live) for slot in SLOTS}, host.drained_mark.exists())


def live_slot(host: Host) -> str | None:
    """Return the name of the live slot; None when nothing is live."""
    try:
        name = host.live_link.readlink().name
    except OSError:
        return None
    return name if name in SLOTS else None


def _look(host: Host, slot: str, *, live: bool) -> SlotView:
    config, variables = _pinned(host, slot)
    return SlotView(
        slot=slot,
        release=linked_release(host.layout.slot_link(host.service, slot)),
        unit=host.systemd.show(host.unit(slot)),
        admitted=host.layout.admission_file(host.service, slot).exists(),
        config=config,
        variables=variables,
        live=live,
    )


def _pinned(host: Host, slot: str) -> tuple[env.Config | None, Mapping[str, str]]:
    try:
        text = host.layout.pinned_env(host.service, slot).read_text(encoding="utf-8")
        return env.Config.of_pinned(text), env.parse(text)
    except (FileNotFoundError, UnicodeDecodeError, env.EnvError):
        # A pinned file that nobody can read is none: a candidate gets a new one.
        return None, {}


def wished_config(host: Host) -> env.Config:
    """Return the configuration that a candidate would get now.

    Raises:
        SlotError: it is not rendered, or malformed.
    """
    rendered = host.layout.rendered_env(host.service)
    try:
        return env.Config.of_rendered(rendered.read_text(encoding="utf-8"), unit_digest(host))
    except FileNotFoundError as error:
        msg = f"{rendered} is missing: run the role linkrift.platform.service (playbook site) first"
        raise SlotError(msg) from error
    except (UnicodeDecodeError, env.EnvError) as error:
        msg = f"{rendered} cannot be used: {error}. Correct what renders it, and repeat this"
        raise SlotError(msg) from error


def unit_digest(host: Host) -> str:
    """Return the digest of the unit file that both slots share, with its drop-ins.

    Raises:
        SlotError: there is no such unit.
    """
    drop_ins = sorted(host.template.with_name(f"{host.template.name}.d").glob("*.conf"))
    try:
        return env.unit_digest({path: path.read_text(encoding="utf-8") for path in (host.template, *drop_ins)})
    except FileNotFoundError as error:
        msg = f"{host.template} is missing: run the role linkrift.platform.service (playbook site) first"
        raise SlotError(msg) from error


def digest_of(host: Host, config: env.Config | None, *, create_key: bool = False) -> str | None:
    """Return the digest of a configuration; None without one, or before the host has its key."""
    key = env.digest_key(host.key_file, create=create_key)
    return None if config is None or key is None else config.digest(key)

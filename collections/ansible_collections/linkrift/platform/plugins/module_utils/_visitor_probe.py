# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Asks a balancer, on itself, what visitors ask it: by TLS, under the public names, for what is always there."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._gate import Response, Verdict, read
from ansible_collections.linkrift.platform.plugins.module_utils._smoke import CANARY_CODE, judge_canary_link

VERSION_HEADER = "x-deployment-version"
_AT_ONCE = 4
_LARGEST_ANSWER = 1024 * 1024
_API_PATH = "/api/v1/openapi.json"
_SILENCE = 10.0
"""Seconds that a balancer may give no answer, as while it is restarted."""


class ProbeError(Exception):
    """Nothing can be asked at all."""


@dataclass(frozen=True)
class Site:
    """A name that visitors use, and the service behind it."""

    name: str
    service: str


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it.

    Attributes:
        milliseconds: from before the connection until the whole answer was there.
        certificate_ends: when the certificate that was shown ends, in seconds since the epoch; None: none was shown.
        silent: nothing was answered. A certificate that is not believed is an answer.
    """

    response: Response
    milliseconds: float = 0.0
    certificate_ends: float | None = None
    silent: bool = False


@dataclass
class Found:
    """What a site answered.

    Attributes:
        releases: how many answers came from which release.
        problems: what was wrong, each kind once, in words.
    """

    site: Site
    asked: int = 0
    failed: int = 0
    releases: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    certificate_ends: float | None = None
    problems: list[str] = field(default_factory=list)

    def add(self, address: str, exchange: Exchange, allowed: Sequence[str]) -> None:
        """Count an exchange.

        Args:
            address: where it was asked.
            exchange: it.
            allowed: releases that may answer; none: each may.
        """
        self.asked += 1
        self.milliseconds.append(exchange.milliseconds)
        if exchange.certificate_ends is not None:
            self.certificate_ends = min(exchange.certificate_ends, self.certificate_ends or exchange.certificate_ends)
        release = exchange.response.headers.get(VERSION_HEADER, "")
        if release:
            self.releases[release] += 1
        reason = judge(self.site.service, exchange.response).reason
        if not reason and allowed and release not in allowed:
            reason = f"release {release or '(none is named)'} answers, not {' or '.join(allowed)}"
        if reason:
            self.failed += 1
            text = f"{self.site.name} at {address}: {reason}"
            if text not in self.problems:
                self.problems.append(text)

    def as_dict(self, now: float) -> dict[str, object]:
        """Return it for results."""
        left = None if self.certificate_ends is None else int((self.certificate_ends - now) // 86400)
        return {
            "name": self.site.name,
            "service": self.site.service,
            "asked": self.asked,
            "failed": self.failed,
            "releases": dict(sorted(self.releases.items())),
            "slowest_ms": round(max(self.milliseconds, default=0.0), 1),
            "certificate_days": left,
        }


def path_of(service: str) -> str:
    """Return what to ask a service for: the canary's link, or the API's own description, which need no account."""
    return f"/{CANARY_CODE}" if service == "redirect" else _API_PATH


def judge(service: str, response: Response) -> Verdict:
    """Judge an answer."""
    if service == "redirect":
        return judge_canary_link(response)
    if response.status is None:
        return Verdict(f"{_API_PATH} gets no answer ({response.error})")
    if response.status != 200:
        return Verdict(f"{_API_PATH} answers {response.status}, not 200")
    answer = read(response)
    if answer.error or "openapi" not in answer.body:
        return Verdict(f"{_API_PATH} answers 200 without the API's description")
    return Verdict()


def trust(authorities: Sequence[str]) -> ssl.SSLContext:
    """Return what to believe certificates by: the system's authorities, and those of files.

    A file may hold the very certificate that is to be shown, where nobody but somebody else can check its authority.

    Args:
        authorities: files in PEM form. One that is not there is left out.

    Raises:
        ProbeError: a file cannot be used.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    for path in authorities:
        if Path(path).exists():
            try:
                context.load_verify_locations(cafile=path)
            except (OSError, ssl.SSLError) as error:
                msg = f"the certificates in {path} cannot be used ({error})"
                raise ProbeError(msg) from error
    return context


def is_here(address: str) -> bool:
    """Tell whether an address is this host's own: what is sent there would come from there. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 443))
            return bool(probe.getsockname()[0] == probe.getpeername()[0])
    except OSError:
        return False


class _Connection(http.client.HTTPConnection):
    """HTTP over TLS to an address, under a name."""

    def __init__(self, address: str, port: int, name: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(address, port, timeout=timeout)
        self._name, self._context = name, context
        self.certificate_ends: float | None = None

    def connect(self) -> None:
        """Connect, and have the balancer prove that it is who visitors look for."""
        super().connect()
        secured = self._context.wrap_socket(self.sock, server_hostname=self._name)
        self.sock = secured
        shown = secured.getpeercert() or {}
        if "notAfter" in shown:
            self.certificate_ends = float(ssl.cert_time_to_seconds(str(shown["notAfter"])))


def exchange(address: str, port: int, site: Site, context: ssl.SSLContext, timeout: float) -> Exchange:
    """Send one request on a connection of its own.

    Args:
        address: where the balancer listens.
        port: its port.
        site: whom to ask for.
        context: what to believe.
        timeout: seconds.
    """
    began = time.monotonic()
    silent = False
    connection = _Connection(address, port, site.name, context, timeout)
    try:
        connection.request(
            "GET",
            path_of(site.service),
            headers={"Host": site.name, "User-Agent": "linkrift-visitor-probe", "Connection": "close"},
        )
        answer = connection.getresponse()
        content = answer.read(_LARGEST_ANSWER)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        response = Response(answer.status, headers, content)
    except (OSError, http.client.HTTPException) as error:
        response = Response(error=f"{type(error).__name__}: {error}")
        silent = isinstance(error, OSError) and not isinstance(error, ssl.SSLCertVerificationError)
    finally:
        connection.close()
    return Exchange(response, 1000 * (time.monotonic() - began), connection.certificate_ends, silent)


Ask = Callable[[str, Site], Exchange]
"""Sends one request: address, site."""


def patient(ask: Ask, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> Ask:
    """Return what asks again while nothing is answered: a restart of HAProxy is something that releases survive.

    As rotation_watch, it waits for an answer, and gives up some seconds after the first silence, whichever balancer
    and name that was of. So a balancer that is gone costs these seconds once.

    Args:
        ask: sends a request.
        clock: seconds that only grow.
        sleep: waits.
    """
    first: list[float] = []

    def again(address: str, site: Site) -> Exchange:
        while True:
            began = clock()
            came = ask(address, site)
            if not came.silent:
                return came
            first.append(began)
            if clock() >= first[0] + _SILENCE:
                return came
            sleep(0.2)

    return again


def probe(
    sites: Sequence[Site],
    addresses: Sequence[str],
    requests: int,
    releases: Mapping[str, Sequence[str]],
    ask: Ask,
) -> list[Found]:
    """Ask each site on each address.

    Args:
        sites: names and services.
        addresses: where.
        requests: how often each, on connections of their own: balancers spread them over the servers.
        releases: which may answer, by service; a service without any: each may.
        ask: sends a request.
    """
    found = [Found(site) for site in sites]
    wanted = [(each, address) for each in found for address in addresses for _number in range(requests)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        exchanges = pool.map(lambda one: ask(one[1], one[0].site), wanted)
        for (each, address), came in zip(wanted, exchanges, strict=True):
            each.add(address, came, releases.get(each.site.service, ()))
    return found


def description(found: Sequence[Found]) -> str:
    """Return in one line what was seen."""
    asked = sum(each.asked for each in found)
    slowest = max((time for each in found for time in each.milliseconds), default=0.0)
    releases = ", ".join(sorted({release for each in found for release in each.releases})) or "nobody"
    return f"{asked} requests as visitors send them, answered by {releases} in at most {slowest:.0f} ms"

"""The links that are asked for, and the requests for them, prepared once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

TARGET = "https://www.example.org/articles/{number}?utm_source=newsletter&utm_medium=email&utm_campaign=autumn"
ANY_VISITOR = "*"
# An answer of 404, or 429 where there were too many of those: what ends a run of a known number of links.
NOBODYS = "/nobody-made-this"

_AGENTS = tuple(
    f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{version}.0.0.0 Safari/537.36"
    for system in ("Windows NT 10.0; Win64; x64", "X11; Linux x86_64", "Macintosh; Intel Mac OS X 10_15_7")
    for version in range(120, 140)
)


@dataclass(frozen=True)
class Links:
    """A row of links with numbered codes.

    Attributes:
        prefix: What their codes begin with.
        count: How many.
        gone: They are deleted: they answer 410.
    """

    prefix: str
    count: int
    gone: bool = False

    def code(self, number: int) -> str:
        """Return the code of one of them, counted from 1."""
        return f"{self.prefix}{number:06d}"

    def codes(self) -> list[str]:
        """Return the codes of all."""
        return [self.code(number) for number in range(1, self.count + 1)]

    def sql(self, email: str) -> str:
        """Return the statement that makes all of them, for an account; those that are there stay."""
        return (
            Path(__file__)
            .with_name("links.sql")
            .read_text(encoding="utf-8")
            .format(
                prefix=self.prefix,
                target=TARGET.replace("{number}", "' || number || '"),
                deleted="now()" if self.gone else "NULL",
                count=self.count,
                email=email,
            )
        )


@dataclass(frozen=True)
class Request:
    """A request, and the status that it is to be answered with."""

    method: str
    path: str
    status: int
    address: str
    agent: str
    referrer: str = ""

    def line(self) -> str:
        """Return it as load.lua reads it."""
        return "\t".join((self.method, self.path, self.address, self.agent, self.referrer)) + "\n"


def mix(links: Links, gone: Links, count: int) -> list[Request]:
    """Return 90 % GET of links, 4 % HEAD of them, 3 % GET of codes that nobody has, 3 % of links that are gone.

    Each has a visitor of its own, more than a cache of visitors keeps; those who ask for what is not there are new ones
    each time.

    Args:
        links: Those that are there.
        gone: Those that were.
        count: How many requests; they are always the same.
    """
    kinds = Counter({"GET": count * 90 // 100, "HEAD": count * 4 // 100, "unknown": count * 3 // 100})
    kinds["gone"] = count - kinds.total()
    drawn = sorted((any_number("turn", at), kind) for at, kind in enumerate(kinds.elements()))
    return [_request(kind, number, links, gone) for number, kind in enumerate(kind for _, kind in drawn)]


def any_number(what: str, number: int) -> int:
    """Return a number that looks random, and is always the same."""
    return int.from_bytes(hashlib.sha256(f"{what} {number}".encode()).digest()[:6], "big")


def _request(kind: str, number: int, links: Links, gone: Links) -> Request:
    chosen = any_number("code", number)
    agent = _AGENTS[any_number("agent", number) % len(_AGENTS)]
    site = any_number("referrer", number) % 1200
    referrer = f"https://site{site}.example/page" if site < 300 else ""
    if kind == "unknown":
        return Request("GET", f"/none{chosen % 300:06d}", 404, ANY_VISITOR, agent, referrer)
    if kind == "gone":
        return Request("GET", f"/{gone.code(1 + chosen % gone.count)}", 410, ANY_VISITOR, agent, referrer)
    return Request(kind, f"/{links.code(1 + chosen % links.count)}", 302, visitor(number), agent, referrer)


def each(codes: Sequence[str]) -> list[Request]:
    """Return a GET for each of the codes, each by a visitor of its own."""
    return [Request("GET", f"/{code}", 302, visitor(number), _AGENTS[0]) for number, code in enumerate(codes)]


def ending(requests: Sequence[Request]) -> list[Request]:
    """Return requests of which a known number is sent: with what is asked once they all were."""
    return [*requests, Request("GET", NOBODYS, 404, ANY_VISITOR, _AGENTS[0])]


def followed(requests: Sequence[Request]) -> list[Request]:
    """Return the same, with GET for HEAD: what others say of a body that does not come, wrk waits for."""
    return [Request("GET", one.path, 302, one.address, one.agent, one.referrer) for one in requests]


def returning(requests: Sequence[Request], visitors: int) -> list[Request]:
    """Return the same, asked by so many visitors who come again and again, each from one page with one program."""
    return [
        replace(one, address=visitor(who), agent=_AGENTS[who % len(_AGENTS)], referrer=requests[who].referrer)
        if one.address != ANY_VISITOR
        else one
        for one, who in ((one, number % visitors) for number, one in enumerate(requests))
    ]


def visitor(number: int) -> str:
    """Return the address of a visitor, of those reserved for benchmarks, another one for each of 65,536 numbers."""
    return f"198.19.{number // 256 % 256}.{number % 256}"


def shares(requests: Sequence[Request]) -> Mapping[int, float]:
    """Return which share of the requests is to be answered with which status."""
    counts = Counter(request.status for request in requests)
    return {status: count / len(requests) for status, count in counts.items()}


def text(requests: Sequence[Request]) -> bytes:
    """Return the file for load.lua."""
    return "".join(request.line() for request in requests).encode("ascii")

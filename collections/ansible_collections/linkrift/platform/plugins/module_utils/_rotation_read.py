# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read the backends back from their file, for who has nothing else that says which services there are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible_collections.linkrift.platform.plugins.module_utils._rotation_config import (
    SLOTS,
    Backend,
    Check,
    Server,
    Timeouts,
    Tls,
    TopologyError,
    is_ours,
    parse_file,
    render,
    service_of,
)

_CHECK = ("inter", "fastinter", "downinter", "fall", "rise")
_TIMEOUTS = ("connect", "server", "queue", "check")


def read_backends(text: str) -> tuple[Backend, ...]:
    """Return the backends of a file that module rotation wrote.

    Raises:
        TopologyError: it is not what `render` makes of them, so somebody, or another version, wrote it.
    """
    try:
        backends = tuple(_backend(name, lines) for name, lines in _sections(text) if is_ours(name))
    except (LookupError, ValueError) as error:
        raise TopologyError(f"the backends file cannot be read ({type(error).__name__}: {error})") from error
    if render(backends, {key: found.state for key, found in parse_file(text).items()}) != text:
        raise TopologyError("the backends file is not as this version of module rotation writes it")
    return backends


def _sections(text: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each backend's name, and its lines as words."""
    name = ""
    lines: list[list[str]] = []
    for line in [*text.splitlines(), "end"]:
        words = line.split()
        if not line[:1].strip():
            lines.append(words)
            continue
        if name:
            yield name, [words for words in lines if words]
        name = words[1] if words[0] == "backend" else ""
        lines = []


def _backend(name: str, lines: Sequence[Sequence[str]]) -> Backend:
    servers = [_server(words) for words in lines if words[0] == "server"]
    values = {words[0]: words[1:] for words in lines if words[0] not in ("server", "timeout")}
    times = {words[1]: words[2] for words in lines if words[0] == "timeout" and words[1] in _TIMEOUTS}
    check, send = values["default-server"], next((words for words in lines if words[:2] == ["http-check", "send"]), [])
    paces = {word: _after(check, word) for word in _CHECK}
    return Backend(
        service=service_of(name),
        servers=tuple(servers),
        balance=values["balance"][0],
        retries=int(values["retries"][0]),
        check=Check(
            path=_after(send, "uri"),
            inter=paces["inter"],
            fastinter=paces["fastinter"],
            downinter=paces["downinter"],
            timeout=times.pop("check"),
            fall=int(paces["fall"]),
            rise=int(paces["rise"]),
        ),
        timeouts=Timeouts(**times),
        tls=Tls(_after(check, "ca-file"), _after(check, "verifyhost")) if "ssl" in check else None,
    )


def _after(words: Sequence[str], name: str) -> str:
    """Return the word that follows another one."""
    return words[words.index(name) + 1]


def _server(words: Sequence[str]) -> Server:
    host, _dash, slot = words[1].rpartition("-")
    if slot not in SLOTS:
        raise ValueError(f"server {words[1]} names no slot")
    return Server(host=host, slot=slot, address=words[2])

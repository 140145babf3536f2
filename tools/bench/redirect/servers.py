"""What the redirect service is measured beside, on the same host and processor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tools.bench.redirect.place import DIRECTORY, HERE, Place
from tools.bench.redirect.requests import TARGET, Links

# Each by its port.
BARE, NGINX, HAPROXY = 9301, 9302, 9303
OTHERS = {"bare aiohttp": BARE, "nginx": NGINX, "HAProxy with a map": HAPROXY}
# Until a server listens; asked with nothing but Bash.
_LISTENS = "timeout 20 bash -c 'until exec 3<>/dev/tcp/{address}/{port}; do sleep 0.1; done' 2>/dev/null"


def configured(name: str, place: Place, port: int) -> str:
    """Put a server's configuration on the host; return its path."""
    template = (HERE / name).read_text(encoding="utf-8")
    filled = template.format(address=place.address, port=port, place=DIRECTORY)
    return place.put(name, filled.encode())


def map_of(links: Links) -> bytes:
    """Return HAProxy's map of the same links."""
    lines = (f"/{links.code(number)} {TARGET.format(number=number)}\n" for number in range(1, links.count + 1))
    return "".join(lines).encode()


@contextmanager
def running(place: Place, links: Links) -> Iterator[None]:
    """Have all of them run on the processor of what is measured, for as long as the `with` block lasts."""
    place.put("map", map_of(links))
    commands = {
        BARE: f"{place.python()} {DIRECTORY}/bare.py {place.address} {BARE}",
        NGINX: f"/usr/sbin/nginx -c {configured('nginx.conf', place, NGINX)}",
        HAPROXY: f"/usr/sbin/haproxy -db -f {configured('haproxy.cfg', place, HAPROXY)}",
    }
    begun = []
    try:
        for port, command in commands.items():
            unit = f"linkrift-bench-{port}"
            place.run(
                f"systemd-run --quiet --collect --unit={unit} --property=CPUAffinity={place.processors.server}"
                f" --property=LimitNOFILE=4096 {command}"
            )
            begun.append(unit)
            place.run(_LISTENS.format(address=place.address, port=port))
        yield
    finally:
        for unit in begun:
            place.run(f"systemctl stop {unit}")

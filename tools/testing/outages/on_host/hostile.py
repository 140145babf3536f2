"""Clients that mean ill, beside the visitors: requests that never end, connections that say nothing, heads too large.

Arguments: the balancers' address, the visitors' host name, the authority's file, seconds, how many of each kind. Prints
by kind what came of them. Runs on a client host with Python's standard library.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
from collections import Counter
from contextlib import suppress

PIECE_SECONDS = 1.0
OVERSIZE = {
    "a field of 20 KiB": "X-Long: " + "x" * 20_480 + "\r\n",
    "200 fields": "".join(f"X-{number}: x\r\n" for number in range(200)),
    "a field's name of 20 KiB": "X" * 20_480 + ": x\r\n",
}


def connect(address: str) -> socket.socket:
    """Open a connection."""
    return socket.create_connection((address, 443), timeout=10)


def status_of(data: bytes) -> str:
    """Return the status of an answer; empty: it is none."""
    return data.split(b" ", 2)[1].decode() if data.startswith(b"HTTP/") else ""


def oversize(address: str, host: str, context: ssl.SSLContext) -> dict[str, str]:
    """Send heads that are too large; return the status of each answer."""
    statuses = {}
    for name, field in OVERSIZE.items():
        with connect(address) as plain, context.wrap_socket(plain, server_hostname=host) as sock:
            said = b""
            # What is refused may be so before all of it was sent.
            with suppress(OSError):
                sock.sendall(f"GET /ping HTTP/1.1\r\nHost: {host}\r\n{field}\r\n".encode())
            with suppress(OSError):
                said = sock.recv(4096)
            statuses[name] = status_of(said)
    return statuses


class Slow:
    """Connections whose request comes a piece at a time, and never to its end."""

    def __init__(self, address: str, host: str, context: ssl.SSLContext, count: int) -> None:
        """Open them."""
        self.ended: Counter[str] = Counter()
        self._open = []
        for _ in range(count):
            sock = context.wrap_socket(connect(address), server_hostname=host)
            sock.sendall(f"GET /ping HTTP/1.1\r\nHost: {host}\r\n".encode())
            sock.setblocking(False)
            self._open.append(sock)

    def go_on(self) -> None:
        """Send another piece on each, and see which of them were ended."""
        for sock in list(self._open):
            try:
                sock.sendall(b"X-Slow: x\r\n")
                said = sock.recv(4096)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue
            except OSError:
                said = b""
            self.ended[status_of(said) or "closed"] += 1
            self._open.remove(sock)
            sock.close()

    def left(self) -> int:
        """Return how many are open."""
        return len(self._open)


def silent_left(silent: list[socket.socket]) -> int:
    """Return how many connections that say nothing are open."""
    poll = select.poll()
    for sock in silent:
        poll.register(sock, select.POLLIN | select.POLLHUP)
    return len(silent) - len(poll.poll(0))


def main() -> None:
    """Be hostile until the time is over."""
    address, host, authority, seconds, count = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    end = time.monotonic() + float(seconds)
    silent = [connect(address) for _ in range(int(count))]
    slow = Slow(address, host, context, int(count))
    statuses: dict[str, Counter[str]] = {name: Counter() for name in OVERSIZE}
    while time.monotonic() < end:
        for name, status in oversize(address, host, context).items():
            statuses[name][status] += 1
        slow.go_on()
        time.sleep(PIECE_SECONDS)  # one piece of each slow request a second
    print(
        json.dumps(
            {
                "slow": {"opened": int(count), "left": slow.left(), "ended": slow.ended},
                "silent": {"opened": int(count), "left": silent_left(silent)},
                "oversize": statuses,
            }
        )
    )


if __name__ == "__main__":
    main()

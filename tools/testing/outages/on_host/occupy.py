"""Takes every connection that PostgreSQL has to give, those of the services, too, until it is ended.

Runs as the user postgres on a host with nothing but Python's standard library: PostgreSQL's protocol 3.0 by its socket.
Tells systemd when there is none left for others.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

# Services try again at once, so their connections are ended until none of them has one.
SECONDS = 30.0
TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND usename <> 'postgres'"
)


def message(sock: socket.socket) -> tuple[bytes, bytes]:
    """Return the type and the content of the next message.

    Raises:
        ConnectionError: the server ended the connection.
    """
    head = receive(sock, 5)
    return head[:1], receive(sock, struct.unpack("!I", head[1:])[0] - 4)


def receive(sock: socket.socket, length: int) -> bytes:
    """Return so many bytes.

    Raises:
        ConnectionError: there are fewer.
    """
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise ConnectionError("the server ended the connection")
        data += piece
    return data


def connect(path: Path) -> socket.socket | None:
    """Open a connection; None: there is no room for one."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(10.0)
    try:
        sock.connect(str(path))
        parameters = b"user\0postgres\0database\0postgres\0\0"
        sock.sendall(struct.pack("!II", len(parameters) + 8, 196608) + parameters)
        while True:
            kind, _content = message(sock)
            if kind == b"Z":  # ready for a query
                return sock
            if kind == b"E":
                break
    except OSError:
        pass  # a server without room may end it before it says so
    sock.close()
    return None


def ask(sock: socket.socket, query: str) -> int:
    """Send a query with one number for an answer, and return that."""
    text = query.encode() + b"\0"
    sock.sendall(b"Q" + struct.pack("!I", len(text) + 4) + text)
    answer = b"0"
    while True:
        kind, content = message(sock)
        if kind == b"D":  # one column: its count, its length, its text
            answer = content[6:]
        elif kind == b"E":
            raise SystemExit(f"PostgreSQL: {content!r}")
        elif kind == b"Z":
            return int(answer)


def main() -> None:
    """Take them, tell systemd, and wait."""
    path = next(Path("/var/run/postgresql").glob(".s.PGSQL.*[0-9]"))
    taken: list[socket.socket] = []
    end = time.monotonic() + SECONDS
    while True:
        while (sock := connect(path)) is not None:
            taken.append(sock)
        if taken and ask(taken[0], TERMINATE) == 0:
            break
        if time.monotonic() > end:
            sys.exit(f"others still have connections beside our {len(taken)}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        name = os.environ["NOTIFY_SOCKET"]
        notify.sendto(b"READY=1", "\0" + name[1:] if name.startswith("@") else name)
    signal.pause()


if __name__ == "__main__":
    main()

"""Somebody who wants to know of rollouts: keeps what is sent to /told, and lets whoever sends to /silent wait for ever.

Arguments: a file for the port that it finds (on loopback), a file for what it is told, a line of JSON each. It ends
when the first file is gone or is another one's, so that nothing stays of a run that was killed.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

LOOK_SECONDS = 0.5


class Handler(BaseHTTPRequestHandler):
    """Takes messages."""

    told: Path
    silence = threading.Event()

    def do_POST(self) -> None:
        """Keep a message, or say nothing."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/silent":
            self.silence.wait()
            return
        message = {"type": self.headers.get("Content-Type"), "message": json.loads(body)}
        with self.told.open("a", encoding="utf-8") as file:
            file.write(json.dumps(message) + "\n")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""


def main() -> None:
    """Listen until the file says otherwise."""
    place, Handler.told = map(Path, sys.argv[1:])
    # Whoever reads it finds that nobody was told, where that is so.
    Handler.told.touch()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    port = str(server.server_address[1])
    # At once, so that nobody reads a part of it.
    beside = place.with_name(f".{place.name}.new")
    beside.write_text(port, encoding="ascii")
    beside.rename(place)
    server.timeout = LOOK_SECONDS
    while place.exists() and place.read_text(encoding="ascii") == port:
        server.handle_request()


if __name__ == "__main__":
    main()

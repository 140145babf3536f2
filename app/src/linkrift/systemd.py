"""Tells systemd how a service of Type=notify is doing."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Sends messages to the socket that NOTIFY_SOCKET names; without it nothing is sent."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> Notifier:
        """Take the socket from the environment, out of sight of programs that we might start."""
        return cls(os.environ.pop("NOTIFY_SOCKET", None))

    def ready(self, status: str) -> None:
        """The service can be used now."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """The service began to shut down."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            try:
                connection.sendto(message.encode(), address)
            except OSError:
                # Nobody listens: the service works all the same, and systemd will say what it missed.
                return

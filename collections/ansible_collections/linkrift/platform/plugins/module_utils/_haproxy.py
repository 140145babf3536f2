# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Talk to a running HAProxy: what it really does (admin socket) and which workers it has (master socket)."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

# Set by the backends file, read back with `show env`: tells which backends file the running worker has loaded.
DIGEST_VARIABLE = "LINKRIFT_ROTATION"

# Bits of srv_admin_state in `show servers state`. 0x04 (disabled in the file) only says how the server began.
_ADMIN_MAINT = 0x01 | 0x02 | 0x20 | 0x40
_ADMIN_DRAIN = 0x08 | 0x10

COUNTERS = ("stot", "econ", "eresp", "wretr", "wredis", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx")

Key = tuple[str, str]
"""A server: (backend, server name)."""


class HaproxyError(Exception):
    """HAProxy refused a command or answered something unexpected."""


class HaproxyDownError(HaproxyError):
    """Nothing listens at the socket."""


@dataclass(frozen=True)
class ServerView:
    """One server as HAProxy sees it."""

    backend: str
    name: str
    admin: str
    """`ready`, `drain` or `maint`."""
    status: str
    """HAProxy's own word: UP, DOWN, DRAIN, NOLB, MAINT, with `n/m` while it changes."""
    running: bool
    """The last checks say it can take requests, whatever its admin state."""
    check_status: str
    """Last check: L7OK, L7STS, L4CON, …; INI before the first one, empty when checks are off."""
    check_code: str
    check_detail: str
    scur: int
    """Requests in progress."""
    weight: int
    address: str
    checking: bool = False
    """A check is on its way: the last one's code and words are gone already."""
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def passing(self) -> bool:
        """Whether the last check passed in full (a 404 standby does not)."""
        return self.running and self.check_status in ("L7OK", "L4OK", "L6OK") and not self.status.startswith("NOLB")

    @property
    def takes_traffic(self) -> bool:
        """Whether HAProxy sends visitors to it."""
        return self.admin == "ready" and self.status.startswith("UP") and self.weight > 0

    def last_check(self) -> str:
        """Say in words what the last check found."""
        if not self.check_status:
            return "no check ran"
        words = [self.check_status, self.check_code, self.check_detail]
        return "last check " + " ".join(word for word in words if word)


@dataclass(frozen=True)
class View:
    """What one worker does at one moment."""

    pid: int
    stopping: bool
    """It is an old worker that only finishes its connections."""
    version: str
    digest: str | None
    servers: dict[Key, ServerView]


@dataclass(frozen=True)
class Workers:
    """The worker processes that the master knows."""

    current: int
    old: tuple[int, ...]


@dataclass(frozen=True)
class LoadedCertificate:
    """A certificate as the running worker has it."""

    fingerprint: str
    """SHA-1 in hexadecimal digits, upper case."""


class Socket:
    """One of HAProxy's command sockets. A connection for each batch of commands: all are answered by one worker."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self.path = path
        self.timeout = timeout

    def ask(self, *commands: str) -> str:
        """Send the commands in one connection and return everything that was answered.

        Raises:
            HaproxyDownError: nothing listens there.
            HaproxyError: the connection broke, or no answer came in time.
        """
        return self._exchange(";".join(commands) + "\n", commands[0])

    def hand_over(self, command: str, payload: str) -> str:
        """Send one command with a payload, which no message will show, and return what was answered.

        Args:
            command: the command without `<<`.
            payload: text without empty lines: one would end it.

        Raises:
            HaproxyDownError: nothing listens there.
            HaproxyError: the connection broke, or no answer came in time.
        """
        return self._exchange(f"{command} <<\n{payload.strip()}\n\n", command)

    def _exchange(self, text: str, shown: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(self.timeout)
            try:
                connection.connect(self.path)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise HaproxyDownError(f"nothing listens at {self.path}") from error
            except OSError as error:
                raise HaproxyError(f"{self.path}: {error}") from error
            chunks: list[bytes] = []
            try:
                connection.sendall(text.encode())
                # The master's socket would wait for more.
                connection.shutdown(socket.SHUT_WR)
                while chunk := connection.recv(65536):
                    chunks.append(chunk)
            except OSError as error:
                raise HaproxyError(f"{self.path}: no whole answer to {shown!r}: {error}") from error
        return b"".join(chunks).decode(errors="replace")


class Haproxy:
    """The running HAProxy, through its two sockets."""

    def __init__(self, admin: Socket, master: Socket | None) -> None:
        self._admin = admin
        self._master = master

    @property
    def has_master(self) -> bool:
        """Whether workers can be asked for."""
        return self._master is not None

    def view(self) -> View:
        """Ask the worker that holds the admin socket for everything at once.

        Raises:
            HaproxyDownError: HAProxy does not run.
            HaproxyError: it runs, but did not answer as expected.
        """
        return parse_view(
            self._admin.ask("show info", f"show env {DIGEST_VARIABLE}", "show servers state", "show stat -1 4 -1")
        )

    def workers(self) -> Workers | None:
        """Ask the master for its workers; None without a master socket or while it is loading a new configuration.

        Raises:
            HaproxyDownError: no master listens.
            HaproxyError: the socket broke.
        """
        if self._master is None:
            return None
        return parse_workers(self._master.ask("show proc"))

    def command(self, *commands: str) -> None:
        """Send commands that answer nothing when they succeed.

        Raises:
            HaproxyError: HAProxy said something.
        """
        answer = self._admin.ask(*commands).strip()
        if answer:
            raise HaproxyError(f"HAProxy answered to {'; '.join(commands)!r}: {' '.join(answer.split())[:300]}")

    def certificate(self, path: str) -> LoadedCertificate | None:
        """Ask which certificate is loaded under a file's name; None when no such file was loaded.

        Raises:
            HaproxyDownError: HAProxy does not run.
            HaproxyError: it runs, but did not answer.
        """
        return parse_certificate(self._admin.ask(f"show ssl cert {path}"))

    def load_certificate(self, path: str, pem: str) -> None:
        """Load another certificate with its key in place of a file's; new connections get it, open ones stay.

        Args:
            path: the file's name as the configuration has it.
            pem: certificate, chain and key.

        Raises:
            HaproxyDownError: HAProxy does not run.
            HaproxyError: it refuses; it goes on with the certificate it had.
        """
        answer = self._admin.hand_over(f"set ssl cert {path}", pem)
        if "Transaction" in answer:
            answer = self._admin.ask(f"commit ssl cert {path}")
            if "Success" in answer:
                return
        with contextlib.suppress(HaproxyError):
            self._admin.ask(f"abort ssl cert {path}")
        raise HaproxyError(f"HAProxy does not take the certificate for {path}: {' '.join(answer.split())[:300]}")

    def patterns(self, path: str) -> list[str] | None:
        """Ask for the patterns that are loaded from an ACL's file; None when no such file was loaded.

        Raises:
            HaproxyDownError: HAProxy does not run.
            HaproxyError: it runs, but did not answer.
        """
        answer = self._admin.ask(f"show acl {path}")
        if "Unknown ACL" in answer:
            return None
        return [
            words[1] for line in answer.splitlines() if len(words := line.split()) == 2 and words[0].startswith("0x")
        ]

    def replace_patterns(self, path: str, patterns: Iterable[str]) -> None:
        """Put other patterns in place of those of an ACL's file, in one step for whoever connects.

        Raises:
            HaproxyDownError: HAProxy does not run.
            HaproxyError: it refuses; it goes on with the patterns it had.
        """
        answer = self._admin.ask(f"prepare acl {path}")
        version = re.search(r"New version created: (\d+)", answer)
        if not version:
            raise HaproxyError(f"HAProxy does not prepare {path}: {' '.join(answer.split())[:300]}")
        given = list(patterns)
        # The command line's buffer is bounded; what is prepared and never committed is dropped by the next one.
        for start in range(0, len(given), 50):
            self.command(*(f"add acl @{version[1]} {path} {pattern}" for pattern in given[start : start + 50]))
        self.command(f"commit acl @{version[1]} {path}")


def parse_certificate(text: str) -> LoadedCertificate | None:
    """Read `show ssl cert <file>`; None when there is no such file, or it has no certificate yet."""
    fingerprint = re.search(r"^SHA1 FingerPrint: ([0-9A-Fa-f]+)$", text, re.MULTILINE)
    return LoadedCertificate(fingerprint[1].upper()) if fingerprint else None


def parse_view(text: str) -> View:
    """Parse the joined answers of the four commands of `Haproxy.view`.

    Raises:
        HaproxyError: a part is missing.
    """
    head, marker, table = text.partition("# pxname")
    pid = re.search(r"^Pid: (\d+)$", head, re.MULTILINE)
    if not marker or not pid:
        raise HaproxyError(f"the admin socket gave no whole answer: {' '.join(text.split())[:200]!r}")
    version = re.search(r"^Version: (\S+)", head, re.MULTILINE)
    digest = re.search(rf"^{DIGEST_VARIABLE}=(\S+)$", head, re.MULTILINE)
    states = _parse_states(head)
    servers: dict[Key, ServerView] = {}
    for row in csv.DictReader(io.StringIO("pxname" + table)):
        key = (row["pxname"] or "", row["svname"] or "")
        if key in states:
            servers[key] = _server_view(key, row, states[key])
    return View(
        pid=int(pid[1]),
        stopping=bool(re.search(r"^Stopping: 1$", head, re.MULTILINE)),
        version=version[1] if version else "",
        digest=digest[1] if digest else None,
        servers=servers,
    )


def _parse_states(text: str) -> dict[Key, dict[str, str]]:
    """Read `show servers state`, whose columns are named in a comment line."""
    columns: list[str] = []
    states: dict[Key, dict[str, str]] = {}
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["#", "be_id"]:
            columns = words[1:]
        elif columns and len(words) == len(columns) and words[0].isdigit():
            row = dict(zip(columns, words, strict=True))
            states[(row["be_name"], row["srv_name"])] = row
    return states


def _server_view(key: Key, row: dict[str, str], state: dict[str, str]) -> ServerView:
    bits = int(state["srv_admin_state"])
    weight = int(state["srv_uweight"])
    if bits & _ADMIN_MAINT:
        admin = "maint"
    elif bits & _ADMIN_DRAIN or weight == 0:
        admin = "drain"
    else:
        admin = "ready"
    return ServerView(
        backend=key[0],
        name=key[1],
        admin=admin,
        status=row["status"],
        # 2 = RUNNING, 1 = STARTING (slow start); 3 = STOPPING is what a 404 standby gets.
        running=state["srv_op_state"] in ("1", "2"),
        # "* " stands before the last result while the next check is on its way.
        check_status=row["check_status"].removeprefix("* "),
        check_code="" if row["check_code"] == "0" else row["check_code"],
        check_detail=row.get("last_chk") or "",
        scur=int(row["scur"] or 0),
        weight=weight,
        address=row.get("addr") or f"{state['srv_addr']}:{state['srv_port']}",
        checking=row["check_status"].startswith("* "),
        counters={name: int(row.get(name) or 0) for name in COUNTERS},
    )


def parse_workers(text: str) -> Workers | None:
    """Read `show proc`; None when the master has no worker to name (it is just loading).

    The table has a comment line before each kind: workers, then old workers, then programs.
    """
    kind = ""
    pids: dict[str, list[int]] = {"workers": [], "old workers": []}
    for line in text.splitlines():
        if line.startswith("# "):
            kind = line[2:].strip()
        elif kind in pids and (words := line.split()) and words[0].isdigit():
            pids[kind].append(int(words[0]))
    if not pids["workers"]:
        return None
    return Workers(current=pids["workers"][-1], old=tuple(pids["old workers"]))

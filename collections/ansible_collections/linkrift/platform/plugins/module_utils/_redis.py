# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings a running Redis to what its files say, as far as it can change while it runs.

Redis reads its configuration and its users when it starts. Both can be told to the running server, too, and clients
stay connected: settings by CONFIG SET, users by ACL SETUSER (ACL LOAD disconnects users' clients before Redis 7.4).
"""

from __future__ import annotations

import re
import shlex
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

SECONDS = 10.0
_UNITS = {"": 1, "b": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_SIZE = re.compile(r"([0-9]+)([kmg]?b?)", re.IGNORECASE)
# They name files that only a start reads, or that other directives of the file stand for.
_NOT_COMPARED = frozenset({"include", "loadmodule", "rename-command", "user"})
# How the server says that a setting is right and only a start reads it: before 7.0, since 7.0, where it protects its
# files' places, and where its certificate is not what it could use now. Everything else would be no better at a start.
_WAITS = ("Unsupported CONFIG parameter", "immutable config", "protected config", "Unable to update TLS")
_PORTS = ("port", "tls-port")


class RedisError(Exception):
    """Redis refused a command; the message is its own."""


class RedisAwayError(Exception):
    """Redis cannot be asked: it does not run, or takes none of the passwords."""


class Commands(Protocol):
    """What runs commands."""

    def __call__(self, *words: str) -> Any:
        """Run one; returns texts and lists of them, raises RedisError."""


class Connection:
    """A connection by Unix socket that speaks RESP 2: what Python brings, for hosts without a driver."""

    def __init__(self, path: str) -> None:
        """Connect.

        Raises:
            RedisAwayError: nobody listens.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise RedisAwayError(f"nobody answers at {path}: {error.strerror or error}") from error
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        """Disconnect."""
        self._file.close()
        self._socket.close()

    def __call__(self, *words: str) -> Any:
        """Run a command.

        Raises:
            RedisError: it was refused.
            RedisAwayError: the connection broke.
        """
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)]
        try:
            self._socket.sendall(b"".join(parts))
            return self._read()
        except OSError as error:
            raise RedisAwayError(f"the connection broke: {error}") from error

    def _read(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise RedisAwayError("the connection broke in the middle of an answer")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode("utf-8", "replace"))
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self._file.read(length + 2)[:-2].decode("utf-8", "replace")
        if kind == b"*":
            return [self._read() for _dummy in range(int(rest))]
        return rest.decode("utf-8", "replace")


def connect(path: str, user: str, passwords: Iterable[str]) -> Connection:
    """Connect as a user, with the first of the passwords that Redis takes.

    Raises:
        RedisAwayError: nobody listens, or none is taken.
    """
    connection = Connection(path)
    if any(_takes(connection, user, password) for password in passwords):
        return connection
    connection.close()
    raise RedisAwayError(f"user {user} cannot log in")


def _takes(connection: Connection, user: str, password: str) -> bool:
    try:
        connection("AUTH", user, password)
    except RedisError:
        return False
    return True


def parse_settings(text: str) -> dict[str, str]:
    """Return the settings of a configuration file; those that come several times are joined."""
    settings: dict[str, list[str]] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, *values = shlex.split(line)
        settings.setdefault(name.lower(), []).extend(values)
    return {name: " ".join(values) for name, values in settings.items() if name not in _NOT_COMPARED}


def same(wished: str, found: str) -> bool:
    """Say whether two values of a setting are the same, written as 1gb or as 1073741824, in capitals or not."""
    return _plain(wished) == _plain(found)


def _plain(value: str) -> list[str]:
    return [_plain_word(word) for word in value.lower().split()]


def _plain_word(word: str) -> str:
    match = _SIZE.fullmatch(word)
    return str(int(match[1]) * _UNITS[match[2]]) if match else word


def parse_users(text: str) -> dict[str, str]:
    """Return the rules of each user, from an ACL file or from the lines of ACL LIST."""
    lines = (line.split(" ", 2) for line in text.splitlines() if line.startswith("user "))
    return {parts[1]: parts[2] if len(parts) > 2 else "" for parts in lines}


def _rules(rules: str) -> list[str]:
    """Return a user's rules in an order of their own: Redis has one, too, and it is not always the same.

    A user that was told the server has the flag sanitize-payload, one that was read from its file at a start has not.
    """
    return sorted(word for word in _words(rules) if word != "sanitize-payload")


def _identity(rules: str) -> list[str]:
    """Return what Redis repeats as it was told: passwords, keys, channels. Commands it puts into words of its own."""
    return sorted(word for word in re.sub(r"\([^)]*\)", " ", rules).split() if word == "on" or word[0] in "#~%&")


def _words(rules: str) -> list[str]:
    """Split rules; a selector is one word."""
    return re.findall(r"\([^)]*\)|\S+", rules)


@dataclass
class Outcome:
    """What was changed, or would be.

    Attributes:
        settings: name → value before and after.
        users: names of users that were made, changed or deleted.
        restart: settings that wait for a restart.
        certificate: the certificate was read anew.
    """

    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)
    restart: list[str] = field(default_factory=list)
    certificate: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything was."""
        return bool(self.settings or self.users or self.certificate)


def apply_settings(run: Commands, wished: Mapping[str, str], outcome: Outcome, *, dry: bool) -> None:
    """Tell the server the settings of its file.

    Ports come last, when the server has the certificate that one of them needs. One that closes comes before one that
    opens, as both may have the same number; when that one does not open, the other one is opened again.

    Raises:
        RedisError: the server does not know a setting (then nothing was changed), or refuses a value. It would not
            start with this file either.
    """
    found = {name: _setting(run, name) for name in wished}
    unknown = [name for name, value in found.items() if value is None]
    if unknown:
        raise RedisError(f"Redis has no setting named {', '.join(unknown)}; it would not start with this file")
    before = {name: value or "" for name, value in found.items()}
    differing = {name: value for name, value in wished.items() if not same(value, before[name])}
    if dry:
        outcome.settings.update({name: (before[name], value) for name, value in differing.items()})
        return
    for name in differing:
        if name not in _PORTS:
            _change(run, name, before[name], wished[name], outcome)
    # Zero is first.
    ports = sorted((name for name in _PORTS if name in differing), key=lambda name: wished[name] != "0")
    told: list[str] = []
    for name in ports:
        try:
            opened = _change(run, name, before[name], wished[name], outcome)
        except RedisError:
            _take_back(run, told, before, outcome)
            raise
        if not opened:
            _take_back(run, told, before, outcome)
            outcome.restart[-1:-1] = told
            return
        told.append(name)


def _change(run: Commands, name: str, before: str, value: str, outcome: Outcome) -> bool:
    """Change a setting; tell whether the server did. What waits for a restart is noted."""
    try:
        run("CONFIG", "SET", name, value)
    except RedisError as error:
        if not any(words in str(error) for words in _WAITS):
            raise RedisError(f"{name}: {error}") from error
        outcome.restart.append(name)
        return False
    now = _setting(run, name) or ""
    # A value may be written in more ways than are known here.
    if now != before:
        outcome.settings[name] = (before, now)
    return True


def _take_back(run: Commands, names: Iterable[str], before: Mapping[str, str], outcome: Outcome) -> None:
    for name in names:
        run("CONFIG", "SET", name, before[name])
        outcome.settings.pop(name, None)


def _setting(run: Commands, name: str) -> str | None:
    """Return a setting's value; None where the server does not know it."""
    answer = run("CONFIG", "GET", name)
    return str(answer[1]) if answer else None


def apply_users(run: Commands, wished: Mapping[str, str], outcome: Outcome, *, dry: bool) -> None:
    """Tell the server the users of its file, each at once; those that it has beside them go.

    A dry run does not compare commands: only the server can tell what its own words for them are.
    """
    before = _users(run)
    surplus = sorted(set(before) - set(wished) - {"default"})
    if dry:
        outcome.users.extend(name for name in wished if _identity(wished[name]) != _identity(before.get(name, "-")))
        outcome.users.extend(surplus)
        return
    # Nobody logs in any more as a user that is to be off, and whoever did is sent away first: with the rights that the
    # file has for such a user they could do more than before.
    ending = [name for name, rules in wished.items() if _is_on(before.get(name, "")) and not _is_on(rules)]
    for name in ending:
        run("ACL", "SETUSER", name, "off")
        run("CLIENT", "KILL", "USER", name)
    for name, rules in wished.items():
        run("ACL", "SETUSER", name, "reset", *_words(rules))
    for name in surplus:
        run("ACL", "DELUSER", name)
    after = _users(run)
    outcome.users.extend(name for name in wished if _rules(after[name]) != _rules(before.get(name, "")))
    outcome.users.extend(surplus)


def _is_on(rules: str) -> bool:
    return "on" in rules.split()


def _users(run: Commands) -> dict[str, str]:
    return parse_users("\n".join(run("ACL", "LIST")))


def apply_certificate(run: Commands, wished: Mapping[str, str], outcome: Outcome, *, dry: bool) -> None:
    """Have a renewed certificate read: the file's name stays, so no setting differs."""
    path, port = wished.get("tls-cert-file"), int(wished.get("tls-port", "0"))
    if not path or not port or "tls-cert-file" in outcome.settings or "tls-cert-file" in outcome.restart:
        return
    served = served_certificate(_loopback(wished.get("bind", "127.0.0.1").split()), port)
    if served is not None and served != leaf(Path(path).read_text(encoding="ascii")):
        outcome.certificate = True
        if not dry:
            run("CONFIG", "SET", "tls-cert-file", path)


def _loopback(addresses: Sequence[str]) -> str:
    return next((address for address in addresses if address.startswith("127.")), addresses[0])


def leaf(pem: str) -> bytes:
    """Return the first certificate of a file, as DER."""
    end = "-----END CERTIFICATE-----"
    return ssl.PEM_cert_to_DER_cert(pem[pem.index("-----BEGIN") :].partition(end)[0] + end)


def served_certificate(host: str, port: int) -> bytes | None:
    """Return the certificate that a server shows, as DER; None when it shows none."""
    # Whom it belongs to does not matter here: it is only compared with the file.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=SECONDS) as plain,
            context.wrap_socket(plain) as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except OSError:
        return None

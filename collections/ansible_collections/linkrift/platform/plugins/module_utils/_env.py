# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Environment files: written, read as systemd reads them, compared, and pinned for a slot.

A service's environment is rendered once for each host (by the role, or by Vault Agent) and pinned for a slot: the
rendered text, then the slot's own variables, which win because systemd takes the last assignment.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SLOT_LINES, rendered_part

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SLOT_VARIABLE = re.compile(r"LINKRIFT_(?:SLOT|ADMISSION_FILE|LIVE_LINK|(?:API|REDIRECT|WORKER)_PORT)")
_UNIT_LINE = re.compile(r"^# unit ([0-9a-f]{64})$", re.MULTILINE)
_ESCAPED = '"\\`$'
_SPACE = " \t\n\r"
_NEWLINE = "\n\r"


class EnvError(ValueError):
    """An environment file cannot be used; the message names the variable or the line, never a value."""


def findings(variables: Mapping[str, Any]) -> list[str]:
    """Return one sentence for everything that keeps variables from becoming an environment file.

    No sentence holds a value: it may be a secret.
    """
    found = []
    for name, value in variables.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            found.append(f"{name!r} is no name of a variable: expected capital letters, digits and underscores")
        elif _SLOT_VARIABLE.fullmatch(name):
            found.append(f"{name} belongs to the slot, which sets it itself: leave it out")
        elif not isinstance(value, (str, int, float)):
            found.append(f"{name} must be text, a number or a boolean, not {type(value).__name__}")
        elif _CONTROL.search(text_of(value)):
            found.append(
                f"{name} holds a line break or another control character: an environment file has no room for it"
            )
        elif not _encodable(text_of(value)):
            found.append(f"{name} is not valid UTF-8")
    return found


def text_of(value: str | float | bool) -> str:
    """Return a value as it stands in the environment; booleans as `true` and `false`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def quoted(text: str) -> str:
    """Return a value quoted so that systemd and a POSIX shell both read exactly it."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + "".join(f"\\{char}" if char in _ESCAPED else char for char in text) + '"'


def render(variables: Mapping[str, Any], header: str = "") -> str:
    """Return an environment file, sorted by name.

    Args:
        variables: value of each variable: text, numbers, booleans.
        header: lines of a comment to put first.

    Raises:
        EnvError: a variable cannot be written; the message names all of them.
    """
    found = findings(variables)
    if found:
        raise EnvError("; ".join(found))
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return comment + "".join(f"{name}={quoted(text_of(value))}\n" for name, value in sorted(variables.items()))


def parse(text: str) -> dict[str, str]:
    """Return the variables of an environment file, as systemd reads it: the last assignment wins.

    Raises:
        EnvError: it is malformed; the message names the line's number.
    """
    return _Parser(text).variables()


class _Parser:
    """Reads an environment file by the rules of systemd.exec(5), one character at a time."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n") + "\n"
        self._at = 0

    def variables(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in _SPACE:
                self._at += 1
            elif char in "#;":
                self._comment()
            else:
                name = self._name()
                found[name] = self._value(name)
        return found

    def _line(self, at: int | None = None) -> int:
        return self._text.count("\n", 0, self._at if at is None else at) + 1

    def _comment(self) -> None:
        end = self._text.index("\n", self._at)
        if self._text[self._at : end].endswith("\\"):
            msg = f"line {self._line()} is a comment that ends in a backslash: systemd before 254 skips the next line"
            raise EnvError(msg)
        self._at = end

    def _name(self) -> str:
        end = self._text.index("\n", self._at)
        line = self._text[self._at : end]
        name = line.partition("=")[0]
        if "=" not in line or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.rstrip()):
            msg = f"line {self._line()} is no assignment: expected NAME=value"
            raise EnvError(msg)
        self._at += len(name) + 1
        return name.rstrip()

    def _value(self, name: str) -> str:
        parts: list[str] = []
        trailing = 0  # blanks at the end of an unquoted part, which do not count
        started = False
        while self._at < len(self._text):
            char = self._take()
            if char in _NEWLINE:
                break
            if not started and char in "'\"":
                parts.append(self._quoted(name, char))
                continue
            if char == "\\":
                escaped = self._take() if self._at < len(self._text) else "\n"
                parts.append("" if escaped in _NEWLINE else escaped)
                started, trailing = True, 0
            elif started or char not in _SPACE:
                parts.append(char)
                started = True
                trailing = trailing + 1 if char in _SPACE else 0
        value = "".join(parts)
        return value[: len(value) - trailing] if trailing else value

    def _take(self) -> str:
        char = self._text[self._at]
        self._at += 1
        return char

    def _quoted(self, name: str, quote: str) -> str:
        start = self._at
        parts: list[str] = []
        while self._at < len(self._text):
            char = self._take()
            if char == quote:
                return "".join(parts)
            if char == "\\" and quote == '"' and self._at < len(self._text):
                escaped = self._take()
                parts.append(escaped if escaped in _ESCAPED else "" if escaped == "\n" else f"\\{escaped}")
            else:
                parts.append(char)
        msg = f"{name} in line {self._line(start)} has no closing {quote}"
        raise EnvError(msg)


def is_slot_variable(name: str) -> bool:
    """Tell whether a variable is one that a slot sets itself."""
    return bool(_SLOT_VARIABLE.fullmatch(name))


def read(path: Path) -> dict[str, str]:
    """Return the variables of an environment file.

    Raises:
        EnvError: it is malformed or not UTF-8; the message names the file.
        OSError: it cannot be read.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        msg = f"{path} is not valid UTF-8"
        raise EnvError(msg) from error
    except EnvError as error:
        msg = f"{path}: {error}"
        raise EnvError(msg) from error


def pinned_text(rendered: str, own: Mapping[str, str], unit: str) -> str:
    """Return a slot's environment file.

    Args:
        rendered: content of the rendered file.
        own: the slot's own variables.
        unit: digest of the unit file that goes with it (`unit_digest`).

    Raises:
        EnvError: the rendered file is malformed, so that it would swallow the slot's lines.
    """
    body = rendered_part(rendered).rstrip()
    # On its own: an open quote would end at the next one in the slot's lines, and take them with it.
    parse(body)
    # The empty line ends a last line that goes on with a backslash.
    return f"{body}\n\n{SLOT_LINES}\n# unit {unit}\n{render_own(own)}"


def render_own(own: Mapping[str, str]) -> str:
    """Return the slot's own variables as lines, in the order given."""
    return "".join(f"{name}={quoted(value)}\n" for name, value in own.items())


def unit_digest(files: Mapping[Path, str]) -> str:
    """Return a digest over what unit files say, comments and blank lines left out: 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(files):
        lines = [line.strip() for line in files[path].splitlines()]
        digest.update("\n".join([path.name, *(line for line in lines if line and line[0] not in "#;"), ""]).encode())
    return digest.hexdigest()


def pinned_unit(text: str) -> str:
    """Return the digest of the unit file that an environment file was pinned with; empty when it does not say."""
    match = _UNIT_LINE.search(text.partition(SLOT_LINES)[2])
    return match[1] if match else ""


@dataclass(frozen=True)
class Config:
    """What decides how a slot runs, apart from its release: its variables and the unit it runs under."""

    variables: Mapping[str, str]
    unit: str

    @classmethod
    def of_rendered(cls, text: str, unit: str) -> Config:
        """Return the configuration a slot would get now.

        Raises:
            EnvError: the text is malformed.
        """
        return cls({name: value for name, value in parse(text).items() if not is_slot_variable(name)}, unit)

    @classmethod
    def of_pinned(cls, text: str) -> Config:
        """Return the configuration a slot was given when it was pinned.

        Raises:
            EnvError: the text is malformed.
        """
        return cls.of_rendered(rendered_part(text), pinned_unit(text))

    def digest(self, key: bytes) -> str:
        """Return 16 hexadecimal digits that tell two configurations of one host apart.

        They go into ledgers, results and job logs, where a plain hash would let a reader test guesses of a weak
        secret. So they are keyed with a random value that never leaves the host; comparing hosts needs no digest.
        """
        content = "".join(f"{name}={value}\0" for name, value in sorted(self.variables.items()))
        return hmac.new(key, f"{content}\0{self.unit}".encode(), hashlib.sha256).hexdigest()[:16]

    def changes_from(self, other: Config | None) -> list[str]:
        """Return what is different from another configuration: names only, never values."""
        if other is None:
            return []
        names = sorted({*self.variables, *other.variables})
        changes = []
        for name in names:
            if name not in other.variables:
                changes.append(f"{name} added")
            elif name not in self.variables:
                changes.append(f"{name} removed")
            elif self.variables[name] != other.variables[name]:
                changes.append(f"{name} changed")
        return [*changes, *(["unit file changed"] if self.unit != other.unit else [])]


def digest_key(path: Path, *, create: bool) -> bytes | None:
    """Return the host's key for configuration digests, made on first use; None when it is missing and not to be made.

    Raises:
        OSError: it cannot be read or written.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        if not create:
            return None
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(32))
            stream.flush()
            os.fsync(stream.fileno())
        # A link, not a rename: of two runs for different services, the first one's key stays.
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()


_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL|URL|DSN", re.IGNORECASE)
# What a service says of a setting that is missing or malformed is no value of it.
_SECRET_TEXT = re.compile(
    r"(?P<before>(?:password|passwd|secret|token|authorization|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)"
    r"(?P<value>(?!missing; expected |expected )[^\s\"',;&}]+)",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?P<before>\w+://[^\s/:@]*:)(?P<value>[^\s/@]+)(?=@)")
_HELD_SECRET = re.compile(r"password|secret|token|authorization|api[_-]?key", re.IGNORECASE)
MASK = "********"


def masked(text: str, variables: Mapping[str, str]) -> str:
    """Return a text without secrets: those of the given variables, and whatever looks like one.

    Args:
        text: lines of a journal, or an answer.
        variables: the slot's environment; those whose name tells of a secret are masked wherever they occur.
    """
    values = {value for name, value in variables.items() if _SECRET_NAME.search(name) and len(value) >= 4}
    values |= {match["value"] for value in values for match in _URL_PASSWORD.finditer(value)}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASK)
    text = _URL_PASSWORD.sub(rf"\g<before>{MASK}", text)
    return _SECRET_TEXT.sub(rf"\g<before>{MASK}", text)


def masked_data(data: Any, variables: Mapping[str, str]) -> Any:
    """Return data as JSON has it, with the secrets in its texts masked."""
    if isinstance(data, str):
        return masked(data, variables)
    if isinstance(data, Mapping):
        return {
            key: MASK if isinstance(value, str) and _HELD_SECRET.search(str(key)) else masked_data(value, variables)
            for key, value in data.items()
        }
    if isinstance(data, list):
        return [masked_data(value, variables) for value in data]
    return data

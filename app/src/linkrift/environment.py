"""Reads settings from environment variables and gathers everything that is wrong with them.

Every variable `X` can also be given as `X_FILE`, the path of a file that holds the value. Nothing here ever puts a
value into a message: it may be a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DURATION = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>ms|s|m|h|d)")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_HOST = re.compile(r"[A-Za-z0-9._:-]{1,253}")


class ConfigurationError(Exception):
    """Settings are missing or malformed.

    Attributes:
        findings: one line for each, naming the variable and what is expected.
    """

    def __init__(self, findings: list[str]) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings


class Environment:
    """Takes settings out of environment variables.

    Each method returns a value of the right type in any case, so that one run finds everything that is wrong;
    `finish` then refuses the whole. A variable without a default must be set. An empty variable counts as unset.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self._findings: list[str] = []

    def finish(self) -> None:
        """Refuse the settings if anything was wrong.

        Raises:
            ConfigurationError: with all findings.
        """
        if self._findings:
            raise ConfigurationError(self._findings)

    def is_set(self, name: str) -> bool:
        """Tell whether a variable, or the one that names its file, has a value."""
        return bool(self._variables.get(name) or self._variables.get(f"{name}_FILE"))

    def reject(self, name: str, expected: str) -> None:
        """Note a finding about a variable: what is expected of it."""
        self._findings.append(f"{name}: {expected}")

    def text(self, name: str, expected: str, default: str | None = None, *, maximum: int = 4096) -> str:
        """Return a printable text of at most `maximum` characters."""
        value = self._raw(name, expected, required=default is None)
        if value is None:
            return default or ""
        if len(value) > maximum or not value.isprintable():
            self.reject(name, f"expected {expected} of at most {maximum} printable characters")
        return value

    def host(self, name: str, default: str | None = None) -> str:
        """Return a host name or an IP address."""
        value = self.text(name, "a host name or IP address", default)
        if value and not _HOST.fullmatch(value):
            self.reject(name, "expected a host name or IP address")
        return value

    def hosts(self, name: str) -> tuple[str, ...]:
        """Return a comma-separated list of host names or IP addresses, in small letters."""
        value = self._raw(name, "", required=False) or ""
        hosts = tuple(part.strip().lower().rstrip(".") for part in value.split(",") if part.strip())
        if not all(_HOST.fullmatch(host) for host in hosts):
            self.reject(name, "expected host names or addresses separated by commas, such as go.example.com")
            return ()
        return hosts

    def integer(self, name: str, default: int | None = None, *, minimum: int, maximum: int) -> int:
        """Return a whole number within bounds."""
        expected = f"a whole number from {minimum} to {maximum}"
        value = self._raw(name, expected, required=default is None)
        if value is None:
            return minimum if default is None else default
        if not re.fullmatch(r"[0-9]{1,12}", value) or not minimum <= int(value) <= maximum:
            self.reject(name, f"expected {expected}")
            return minimum
        return int(value)

    def port(self, name: str, default: int | None = None) -> int:
        """Return a TCP port."""
        return self.integer(name, default, minimum=1, maximum=65535)

    def duration(self, name: str, default: float, *, minimum: float = 0.001, maximum: float = 31 * 86400) -> float:
        """Return a duration in seconds, written as `500ms`, `5s`, `1m`, `24h` or `7d`."""
        expected = f"a duration such as 500ms, 5s, 1m or 24h, from {minimum:g} to {maximum:g} seconds"
        value = self._raw(name, expected, required=False)
        if value is None:
            return default
        match = _DURATION.fullmatch(value)
        seconds = int(match["number"]) * _UNIT_SECONDS[match["unit"]] if match else -1.0
        if not minimum <= seconds <= maximum:
            self.reject(name, f"expected {expected}")
            return default
        return seconds

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """Return one of the allowed words."""
        value = self._raw(name, "", required=False)
        if value is None:
            return default
        if value not in allowed:
            self.reject(name, f"expected one of {', '.join(allowed)}")
            return default
        return value

    def path(self, name: str) -> Path | None:
        """Return an absolute path, or None when the variable is not set."""
        value = self._raw(name, "", required=False)
        if value is None:
            return None
        path = Path(value)
        if not path.is_absolute():
            self.reject(name, "expected an absolute path")
        return path

    def readable_file(self, name: str, *, required_because: str | None = None) -> Path | None:
        """Return the path of a file that can be read, or None when the variable is not set."""
        path = self.path(name)
        if path is None:
            if required_because:
                self.reject(name, f"missing; expected the path of a file, {required_because}")
            return None
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            self.reject(name, f"expected a file that can be read ({error.strerror})")
        return path

    def networks(self, name: str) -> tuple[Network, ...]:
        """Return a comma-separated list of IP networks; a single address is a network of one."""
        value = self._raw(name, "", required=False) or ""
        try:
            return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            self.reject(name, "expected IP networks separated by commas, such as 198.51.100.0/24,2001:db8::/32")
            return ()

    def origin(self, name: str, default: str | None = None) -> str:
        """Return an http(s) origin: scheme, host and optional port, nothing after it."""
        expected = "an origin such as https://go.example.com (no path, no credentials)"
        value = self._raw(name, expected, required=default is None)
        if value is None:
            return default or ""
        try:
            parts = urlsplit(value)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in value:
            self.reject(name, f"expected {expected}")
            return ""
        return value.rstrip("/")

    def secret(self, name: str, expected: str, *, minimum: int = 1, required: bool = True) -> str:
        """Return a secret of at least `minimum` characters; empty when it is neither set nor required."""
        value = self._raw(name, expected, required=required)
        if value is None:
            return ""
        if len(value) < minimum:
            self.reject(name, f"expected {expected}")
        return value

    def _raw(self, name: str, expected: str, *, required: bool) -> str | None:
        value = self._variables.get(name) or None
        file_name = self._variables.get(f"{name}_FILE") or None
        if value is not None and file_name is not None:
            self.reject(name, f"set together with {name}_FILE; expected only one of them")
            return value
        if file_name is not None:
            try:
                value = Path(file_name).read_text(encoding="utf-8").rstrip("\r\n") or None
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                self.reject(f"{name}_FILE", f"expected a file that can be read ({reason})")
                return None
        if value is None and required:
            self.reject(name, f"missing; expected {expected}")
        return value

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The SSH server's configuration: what it should be, whether it takes effect, and a guard that takes it back.

Nothing here knows about Ansible. Paths hang off a `Layout`, so that tests use a directory of their own.
"""

from __future__ import annotations

import inspect
import ipaddress
import json
import os
import re
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils import _sshd_guard
from ansible_collections.linkrift.platform.plugins.module_utils._connection import Connection
from ansible_collections.linkrift.platform.plugins.module_utils._host_files import put, read_exactly, said
from ansible_collections.linkrift.platform.plugins.module_utils._listeners import listening_sockets
from ansible_collections.linkrift.platform.plugins.module_utils._paths import write_atomically
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Runner

SERVICE = "ssh.service"
SOCKET = "ssh.socket"
GUARD = "linkrift-sshd-guard"
INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf"
_INCLUDED = "/etc/ssh/sshd_config.d/"
HEADER = "# Written by the role that configures this host. The first value that sshd reads wins, so the name is 00.\n"

# Of these, every line counts, not the first one only.
_ADDED_UP = {"allowusers", "allowgroups", "denyusers", "denygroups", "hostkey", "acceptenv", "listenaddress", "port"}
_KEYWORD = re.compile(r"^[A-Za-z][A-Za-z0-9]*$")
_PORT = re.compile(r"^\s*port[\s=]+(?P<port>\d+)\s*$", re.IGNORECASE)
_MATCH = re.compile(r"^\s*match\s", re.IGNORECASE)


class SshdError(Exception):
    """The configuration cannot be applied, or was taken back; the message says why."""


@dataclass(frozen=True)
class Layout:
    """Where things lie."""

    root: Path = Path("/")

    @property
    def main(self) -> Path:
        """The package's configuration."""
        return self.root / "etc/ssh/sshd_config"

    @property
    def drop_ins(self) -> Path:
        """Directory of what the package's configuration includes first."""
        return self.root / "etc/ssh/sshd_config.d"

    @property
    def ours(self) -> Path:
        """Our part."""
        return self.drop_ins / "00-linkrift.conf"

    @property
    def socket(self) -> Path:
        """Our part of the socket unit, where systemd listens for the server."""
        return self.root / "etc/systemd/system/ssh.socket.d/linkrift.conf"

    @property
    def guard(self) -> Path:
        """What the guard needs to take a change back."""
        return self.root / "var/lib/linkrift/sshd-guard"


# -- what it should be -----------------------------------------------------------------------------------------------


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that have a value: one that is None or empty is left to others."""
    return {keyword: value for keyword, value in options.items() if value is not None and value not in ([], "")}


def render(options: Mapping[str, Any], port: int | None) -> str:
    """Return our part of the configuration.

    Args:
        options: values by keyword; a list is written on one line; one that is None or empty is left out.
        port: the port, None when other files say it already.

    Raises:
        SshdError: a keyword or value that cannot be written.
    """
    lines = [f"Port {port}\n"] if port is not None else []
    for keyword, value in given(options).items():
        words = value if isinstance(value, list) else [{True: "yes", False: "no"}.get(value, value)]
        text = " ".join(map(str, words))
        if not _KEYWORD.match(keyword) or "\n" in text or keyword.lower() in ("port", "match", "include"):
            raise SshdError(f"option {keyword}: {text!r} cannot be written")
        lines.append(f"{keyword} {text}\n")
    return HEADER + "".join(lines)


def include_first(text: str) -> str:
    """Return the package's configuration with the include as its first word, where it is not yet."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            if line.split()[:2] == INCLUDE.split():
                return text
            break
    return f"{INCLUDE}\n{text}"


def ports_elsewhere(texts: Mapping[Path, str]) -> dict[int, str]:
    """Return the ports that other files name, with file and line: ports add up, the first one does not win."""
    found: dict[int, str] = {}
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            if _MATCH.match(line):
                break
            match = _PORT.match(line)
            if match:
                found.setdefault(int(match["port"]), f"{path}:{number}")
    return found


def read_texts(layout: Layout) -> dict[Path, str]:
    """Return the configuration's files with their texts, the included ones first, ours left out."""
    files = [path for path in sorted(layout.drop_ins.glob("*.conf")) if path != layout.ours]
    return {path: read_exactly(path) for path in [*files, layout.main]}


def wanted_texts(layout: Layout, options: Mapping[str, Any], port: int, *, by_socket: bool) -> dict[Path, str]:
    """Return the files that we write, with their texts.

    Raises:
        SshdError: other files name another port.
    """
    others = read_texts(layout)
    elsewhere = ports_elsewhere(others)
    for other, where in elsewhere.items():
        if other != port:
            raise SshdError(f"{where} has sshd listen on port {other}, too: take that line away, or make it {port}")
    texts = {layout.ours: render(options, None if port in elsewhere else port)}
    main = others[layout.main]
    if include_first(main) != main:
        texts[layout.main] = include_first(main)
    if by_socket:
        # Ubuntu's own unit names an address of each family, and binds the IPv6 one to IPv6 only.
        texts[layout.socket] = f"[Socket]\nListenStream=\nListenStream={port}\nBindIPv6Only=both\n"
    return texts


# -- whether it takes effect -----------------------------------------------------------------------------------------


def parse_effective(output: str) -> dict[str, list[str]]:
    """Return what `sshd -T` says: values by keyword."""
    found: dict[str, list[str]] = {}
    for line in output.splitlines():
        keyword, _space, value = line.strip().partition(" ")
        if keyword:
            found.setdefault(keyword.lower(), []).append(value)
    return found


def ineffective(
    options: Mapping[str, Any], alone: Mapping[str, list[str]], together: Mapping[str, list[str]]
) -> list[str]:
    """Return the keywords that mean something else once other files have their say.

    Args:
        options: our options.
        alone: what sshd makes of our file alone.
        together: what it makes of all files.
    """
    different: list[str] = []
    for keyword in given(options):
        name = keyword.lower()
        mine, all_of_it = alone.get(name, []), together.get(name, [])
        same = set(mine) <= set(all_of_it) if name in _ADDED_UP else mine == all_of_it
        if not same:
            different.append(f"{keyword} is {', '.join(all_of_it) or 'not set'} instead of {', '.join(mine)}")
    return different


def check(layout: Layout, texts: Mapping[Path, str], options: Mapping[str, Any], run: Runner) -> dict[str, list[str]]:
    """Have sshd check the configuration as it would be, in a directory of its own; return what it makes of it.

    Raises:
        SshdError: sshd refuses it, or another file takes precedence over one of our options.
    """
    with tempfile.TemporaryDirectory(prefix="linkrift-sshd-") as name:
        directory = Path(name)
        (directory / "all").mkdir()
        for path, text in {**read_texts(layout), **texts}.items():
            if path.parent == layout.drop_ins:
                (directory / "all" / path.name).write_text(text, encoding="utf-8", errors="surrogateescape")
        main = texts.get(layout.main, read_exactly(layout.main))
        (directory / "main").write_text(
            main.replace(_INCLUDED, f"{directory}/all/"), encoding="utf-8", errors="surrogateescape"
        )
        (directory / "ours").write_text(texts[layout.ours], encoding="utf-8")
        done = run(["/usr/sbin/sshd", "-t", "-f", str(directory / "main")], 20)
        if done.status != 0:
            message = said(done).replace(f"{directory}/all/", _INCLUDED).replace(f"{directory}/main", str(layout.main))
            raise SshdError(f"sshd refuses the configuration: {message}")
        together = parse_effective(_ask(run, directory / "main"))
        different = ineffective(options, parse_effective(_ask(run, directory / "ours")), together)
    if different:
        raise SshdError(
            f"another file in {_INCLUDED} comes before {layout.ours.name} and says otherwise: {'; '.join(different)}"
        )
    return together


def refuse_other_ports(effective: Mapping[str, list[str]], port: int) -> None:
    """Look for ports that no line shows which we read: one in a file that others include, or an address with its port.

    Args:
        effective: what sshd makes of all files.
        port: the only port that it shall listen on.

    Raises:
        SshdError: it would listen on another one.
    """
    others = [entry for entry in effective.get("listenaddress", []) if entry.rpartition(":")[2] != str(port)]
    if others:
        raise SshdError(
            f"sshd would listen on {', '.join(others)} instead of port {port} only: look for Port and ListenAddress in "
            "its files, and in those that they include"
        )


def _ask(run: Runner, file: Path) -> str:
    """Return what sshd makes of a configuration file."""
    done = run(["/usr/sbin/sshd", "-T", "-f", str(file)], 20)
    if done.status != 0:
        raise SshdError(f"sshd -T: {said(done)}")
    return done.stdout


# -- applying it, with a guard ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """How the server runs on this host.

    Attributes:
        by_socket: systemd listens for it, and the configuration's port means nothing.
        per_connection: systemd starts one for each connection.
    """

    by_socket: bool
    per_connection: bool = False

    def commands(self, *, back: bool) -> list[list[str]]:
        """Return what makes it read its configuration. Connections that are open stay so.

        Args:
            back: for the guard, which must get a server that runs whatever state the change left it in.
        """
        if not self.by_socket:
            return [["systemctl", "reload-or-restart" if back else "reload", SERVICE]]
        stop = [] if self.per_connection else [["systemctl", "stop", SERVICE]]
        return [["systemctl", "daemon-reload"], *stop, ["systemctl", "restart", SOCKET]]


def find_server(run: Runner) -> Server:
    """Return how the server runs: Ubuntu since 22.10 has systemd listen for it, Debian can."""
    done = run(["systemctl", "show", "--property=ActiveState,Accept", "--", SOCKET], 20)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return Server(found.get("ActiveState") == "active", found.get("Accept") == "yes")


def different_files(texts: Mapping[Path, str]) -> dict[Path, str]:
    """Return the files that are not yet as they should be."""
    return {path: text for path, text in texts.items() if not path.is_file() or read_exactly(path) != text}


def settle(layout: Layout, run: Runner, patience: float, *, pause: Callable[[float], None] = time.sleep) -> bool:
    """End an earlier change that nobody confirmed; tell whether there was one.

    Its timer is left the time it has; without a timer (the host was rebooted) the change is taken back here.

    Raises:
        SshdError: the timer's work does not end.
    """
    if not any((layout.guard / name).exists() for name in (_sshd_guard.RECORD, _sshd_guard.CLAIMED)):
        return False
    deadline = time.monotonic() + patience
    while guard_is_busy(run):
        if time.monotonic() > deadline:
            raise SshdError(f"an earlier change waits for its guard, {GUARD}.timer, longer than {patience:.0f} s")
        pause(0.5)
    _sshd_guard.revert(layout.guard, "its guard was gone")
    return True


def guard_is_busy(run: Runner) -> bool:
    """Tell whether the timer waits or its service works."""
    done = run(["systemctl", "is-active", f"{GUARD}.timer", f"{GUARD}.service"], 20)
    return any(line in ("active", "activating", "deactivating") for line in done.stdout.split())


def arm(
    layout: Layout,
    paths: Sequence[Path],
    commands: Sequence[Sequence[str]],
    seconds: int,
    facts: Mapping[str, Any],
    run: Runner,
) -> None:
    """Keep the former files, and have a timer restore them.

    Args:
        layout: where things lie.
        paths: files that are about to change.
        commands: what the guard runs after it restored them.
        seconds: until then.
        facts: more to record: the connection, the ports.
        run: runs a command.

    Raises:
        SshdError: the timer could not be started; nothing was changed.
    """
    layout.guard.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (_sshd_guard.REVERTED, _sshd_guard.CONFIRMED):
        (layout.guard / name).unlink(missing_ok=True)
    files: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        if not path.is_file():
            files.append({"path": str(path), "kept": None})
            continue
        found = path.stat()
        kept = f"former-{number}"
        put(layout.guard / kept, read_exactly(path), os.geteuid(), os.getegid(), 0o600)
        files.append(
            {
                "path": str(path),
                "kept": kept,
                "uid": found.st_uid,
                "gid": found.st_gid,
                "mode": stat.S_IMODE(found.st_mode),
            }
        )
    record = {**facts, "files": files, "commands": [list(command) for command in commands], "seconds": seconds}
    script = layout.guard / "guard.py"
    write_atomically(script, inspect.getsource(_sshd_guard), 0o600)
    write_atomically(layout.guard / _sshd_guard.RECORD, json.dumps(record, indent=1), 0o600)
    done = run(
        [
            *("systemd-run", f"--unit={GUARD}", "--collect", f"--on-active={seconds}s"),
            *("--timer-property=AccuracySec=200ms", "--description=Restore the SSH server's former configuration"),
            *("--", sys.executable, "-I", str(script), str(layout.guard)),
        ],
        30,
    )
    if done.status != 0:
        (layout.guard / _sshd_guard.RECORD).unlink()
        raise SshdError(f"the guard could not be started, so nothing was changed: {said(done)}")


def disarm(run: Runner) -> None:
    """Stop the timer. What it started goes on."""
    run(["systemctl", "stop", f"{GUARD}.timer"], 20)


def write_texts(layout: Layout, texts: Mapping[Path, str]) -> None:
    """Write the configuration's files; only root reads what the server may do."""
    for path, text in texts.items():
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        owner = path.stat() if path.is_file() else path.parent.stat()
        put(path, text, owner.st_uid, owner.st_gid, 0o644 if path == layout.socket else 0o600)


def main_pid(run: Runner) -> int:
    """Return the process number of the server; 0 when there is none."""
    return int(run(["systemctl", "show", "--property=MainPID", "--value", "--", SERVICE], 20).stdout.strip() or 0)


def has_new_sockets(before: frozenset[str], run: Runner) -> bool:
    """Tell whether the server listens, on other sockets than before: it has read its configuration."""
    pid = main_pid(run)
    now = listening_sockets(pid) if pid else frozenset()
    return bool(now) and now.isdisjoint(before)


def greets(effective: Mapping[str, list[str]], port: int) -> bool:
    """Tell whether an SSH server answers on the port, on the first address that it listens on."""
    entry = next(iter(effective.get("listenaddress", [])), "127.0.0.1:22")
    address = ipaddress.ip_address(entry.rpartition(":")[0].strip("[]"))
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    try:
        with socket.create_connection((str(address), port), timeout=2) as connection:
            return connection.recv(8).startswith(b"SSH-2.0")
    except OSError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float, pause: Callable[[float], None] = time.sleep) -> bool:
    """Wait until a condition holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        pause(0.1)
    return True


def refuse_confirmation(record: Mapping[str, Any], connection: Connection | None) -> str | None:
    """Return why a connection does not prove that the new configuration lets operators in; None when it does."""
    if connection is None:
        return "this is no SSH connection"
    if vars(connection) == record["connection"]:
        return "this is the connection that made the change, not a fresh one"
    if connection.port != record["port"]:
        return f"this connection came to port {connection.port}, not to {record['port']}"
    return None

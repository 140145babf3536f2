"""One lab host: its file system, its boot, its end.

A host's directory holds `upper/` (all that it wrote), `work/` (overlayfs), `root/` (where it is mounted), `host.json`
(what it was made from; written when `upper/` is complete), `process.json` (who boots it, and boots it again when it
reboots) and `console.log`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cgroups
from .errors import LabError
from .plan import USER, HostSpec, Lab
from .run import run, try_run, wait_for, write_whole

# Their systemd manages unified control groups only, also where the machine has the legacy ones.
_UNIFIED_ONLY = ("trixie",)
_STOP_SECONDS = 30.0
_NSPAWN = Path("/run/systemd/nspawn")
# What systemd-nspawn exits with when the host inside rebooted: it leaves booting again to whoever started it.
REBOOTED = 133
# Moves itself into the control groups named first, then runs the command after `--`, and again for as long as it says
# that the host rebooted. SIGTERM goes on to the command, and ends the repeating. A host that is powered off or killed
# stays off. `wait` also returns for the signal, so what counts is that the command is gone.
_SUPERVISE = f"""
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done
shift
ending= child=
trap 'ending=yes; [ -z "$child" ] || kill -TERM "$child"' TERM
while [ -z "$ending" ]; do
    "$@" & child=$!
    wait "$child"; status=$?
    while kill -0 "$child" 2> /dev/null; do wait "$child"; status=$?; done
    child=
    [ "$status" -eq {REBOOTED} ] || exit "$status"
done
"""


@dataclass(frozen=True)
class Settings:
    """What every host of a lab gets from the machine and from the lab's user.

    Attributes:
        resolv_conf: Content of /etc/resolv.conf.
        environment: Content of /etc/environment.
        pip_conf: Content of /etc/pip.conf; empty for none.
        authorized_key: Public key that may log in.
        mtu: Largest packet, in bytes.
    """

    resolv_conf: str
    environment: str
    pip_conf: str
    authorized_key: str
    mtu: int


@dataclass(frozen=True)
class Host:
    """A host of a lab, as the machine sees it."""

    lab: Lab
    name: str

    @property
    def directory(self) -> Path:
        """Where all of it is."""
        return self.lab.state / "hosts" / self.name

    @property
    def upper(self) -> Path:
        """What it wrote."""
        return self.directory / "upper"

    @property
    def root(self) -> Path:
        """Where its file system is mounted."""
        return self.directory / "root"

    @property
    def unit(self) -> str:
        """Name of its unit on a machine that runs systemd."""
        return f"linkrift-lab-{self.lab.number}-{self.name}.service"

    def made_from(self) -> dict[str, str]:
        """Content of host.json; empty for a host that does not exist or was never completed."""
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            data: dict[str, str] = json.loads((self.directory / "host.json").read_text(encoding="utf-8"))
            return data
        return {}

    def host_key(self) -> str:
        """Public key of its SSH server."""
        return (self.upper / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="utf-8").strip()


def runs_systemd() -> bool:
    """Whether systemd is what started this machine."""
    return Path("/run/systemd/system").is_dir()


def start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: with the pid it names one process for ever. None when gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else fields[19]


def process(host: Host) -> int | None:
    """Process id of what boots a host and boots it again when it reboots; None when the host does not run."""
    if runs_systemd():
        pid = int(run(["systemctl", "show", "--property=MainPID", "--value", host.unit]).strip() or 0)
        return pid or None
    try:
        data = json.loads((host.directory / "process.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return data["pid"] if start_time(data["pid"]) == data["start"] else None


def network_unit(host: Host, spec: HostSpec, mtu: int) -> str:
    """The systemd-networkd file that gives a host its addresses."""
    lab = host.lab
    return f"""\
[Match]
Name=host0

[Link]
MTUBytes={mtu}

[Network]
Address={lab.address(spec)}/{lab.network.prefixlen}
Address={lab.address6(spec)}/{lab.network6.prefixlen}
Gateway={lab.gateway}
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
"""


def prepare(host: Host, spec: HostSpec, *, image: Path, archives: Path | None, settings: Settings) -> None:
    """Make a host's directory: what it has of its own before it boots for the first time."""
    shutil.rmtree(host.directory, ignore_errors=True)
    for directory in (host.upper, host.directory / "work", host.root):
        directory.mkdir(parents=True)
    address = host.lab.address(spec)
    files = {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost ip6-localhost ip6-loopback\n",
        "etc/machine-id": f"{uuid.uuid4().hex}\n",
        "etc/resolv.conf": settings.resolv_conf,
        "etc/environment": settings.environment,
        "etc/systemd/network/10-lab.network": network_unit(host, spec, settings.mtu),
        f"home/{USER}/.ssh/authorized_keys": f"{settings.authorized_key}\n",
    }
    if settings.pip_conf:
        files["etc/pip.conf"] = settings.pip_conf
    for name, content in files.items():
        path = host.upper / name
        _make_parents(path, host.upper, image)
        path.write_text(content, encoding="utf-8")
    owner = (image / f"home/{USER}").stat()
    for name in (f"home/{USER}", f"home/{USER}/.ssh", f"home/{USER}/.ssh/authorized_keys"):
        os.chown(host.upper / name, owner.st_uid, owner.st_gid)
        (host.upper / name).chmod(0o600 if name.endswith("keys") else 0o700)
    key = host.upper / "etc/ssh/ssh_host_ed25519_key"
    _make_parents(key, host.upper, image)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{host.name} {address}", "-f", str(key)])
    data = {"suite": spec.suite, "octet": str(spec.octet), "image": str(image), "archives": str(archives or "")}
    write_whole(host.directory / "host.json", json.dumps(data) + "\n")


def _make_parents(path: Path, upper: Path, image: Path) -> None:
    """Make a file's directories in the upper layer with the mode they have in the image, which they hide."""
    for parent in reversed(path.relative_to(upper).parents):
        if not (upper / parent).is_dir():
            (upper / parent).mkdir()
            below = image / parent
            (upper / parent).chmod(below.stat().st_mode & 0o7777 if below.is_dir() else 0o755)


def mount_command(host: Host, made_from: Mapping[str, str]) -> list[str]:
    """The command that mounts a host's file system."""
    lower = ":".join(layer for layer in (made_from["archives"], made_from["image"]) if layer)
    options = f"lowerdir={lower},upperdir={host.upper},workdir={host.directory / 'work'}"
    return ["mount", "-t", "overlay", f"linkrift-lab-{host.lab.number}", "-o", options, str(host.root)]


def boot_command(host: Host) -> list[str]:
    """The systemd-nspawn command that boots a host."""
    return [
        "systemd-nspawn",
        "--boot",
        f"--directory={host.root}",
        f"--machine={host.lab.machine(host.name)}",
        f"--network-bridge={host.lab.bridge}",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--settings=no",
        "--console=read-only",
    ]


def boot_environment(suite: str, *, unified: bool) -> dict[str, str]:
    """Environment of systemd-nspawn.

    Args:
        suite: Suite of the host.
        unified: Whether the machine itself has unified control groups only.
    """
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if suite in _UNIFIED_ONLY and not unified:
        environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    return environment


def unit_command(host: Host, environment: Mapping[str, str]) -> list[str]:
    """The command that boots a host as a unit of its own, for machines that run systemd."""
    settings = [f"--setenv={name}={value}" for name, value in environment.items()]
    properties = [
        "--property=Delegate=yes",
        "--property=KillMode=mixed",
        f"--property=TimeoutStopSec={_STOP_SECONDS:.0f}",
        f"--property=RestartForceExitStatus={REBOOTED}",
        f"--property=SuccessExitStatus={REBOOTED}",
    ]
    output = f"--property=StandardOutput=append:{host.directory / 'console.log'}"
    head = ["systemd-run", "--quiet", "--collect", f"--unit={host.unit}"]
    return [*head, *properties, output, *settings, "--", *boot_command(host)]


def supervisor_command(groups: Sequence[Path], command: Sequence[str]) -> list[str]:
    """The command that boots a host in its control groups, and again whenever it reboots."""
    return ["sh", "-c", _SUPERVISE, "lab-host", *map(str, groups), "--", *command]


def is_mounted(path: Path) -> bool:
    """Whether something is mounted there; os.path.ismount asks the directory, which may be stale."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
    return any(line.split()[1] == str(path) for line in mounts.splitlines())


def boot(host: Host) -> None:
    """Mount a host's file system and boot it; what runs of it is ended first.

    Raises:
        LabError: Its file system cannot be mounted, or it ended at once.
    """
    clear(host)
    made_from = host.made_from()
    run(mount_command(host, made_from))
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    environment = boot_environment(made_from["suite"], unified=unified)
    if runs_systemd():
        run(unit_command(host, environment))
        return
    groups = cgroups.make(cgroups.own_hierarchies(), host.lab.number, host.name)
    argv = supervisor_command(groups, boot_command(host))
    with (host.directory / "console.log").open("ab") as console:
        started = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    data = {"pid": started.pid, "start": start_time(started.pid)}
    write_whole(host.directory / "process.json", json.dumps(data) + "\n")


def last_words(host: Host) -> str:
    """The last lines of a host's console, for messages."""
    with contextlib.suppress(FileNotFoundError):
        text = (host.directory / "console.log").read_text(encoding="utf-8", errors="replace")
        return " | ".join([line.strip() for line in text.splitlines() if line.strip()][-3:])
    return ""


def stop(host: Host) -> bool:
    """Shut a host down in order, as its power button would; tell whether it ran. Its files stay."""
    pid = process(host)
    if pid is not None:
        if runs_systemd():
            run(["systemctl", "stop", host.unit], timeout=_STOP_SECONDS * 2)
        else:
            os.kill(pid, signal.SIGTERM)
            wait_for(lambda: process(host) is None, seconds=_STOP_SECONDS)
    clear(host)
    return pid is not None


def clear(host: Host) -> None:
    """End at once what runs of a host, and take its mounts, interface and control groups away. Its files stay.

    Raises:
        LabError: Something of it does not go.
    """
    if runs_systemd():
        try_run(["systemctl", "kill", "--signal=SIGKILL", host.unit])
        try_run(["systemctl", "stop", host.unit], timeout=_STOP_SECONDS * 2)
    groups = cgroups.of_lab(host.lab.number, host.name)
    cgroups.kill(groups)
    cgroups.remove(groups)
    (host.directory / "process.json").unlink(missing_ok=True)
    machine = host.lab.machine(host.name)
    _forget_in_nspawn(host)
    for mountpoint in mounts_of(host, Path("/proc/self/mounts").read_text(encoding="utf-8")):
        if not wait_for(lambda point=mountpoint: try_run(["umount", point]), seconds=10):  # type: ignore[misc]
            raise LabError(f"{mountpoint} cannot be unmounted")
    if Path(f"/sys/class/net/vb-{machine}").exists():
        try_run(["ip", "link", "delete", f"vb-{machine}"])


def _forget_in_nspawn(host: Host) -> None:
    """Remove what systemd-nspawn notes about a host while it runs; a killed one leaves it."""
    with contextlib.suppress(OSError):
        (_NSPAWN / "propagate" / host.lab.machine(host.name)).rmdir()
    if is_mounted(host.root):
        status = host.root.stat()
        (_NSPAWN / "locks" / f"inode-{status.st_dev}:{status.st_ino}").unlink(missing_ok=True)


def mounts_of(host: Host, mounts: str) -> list[str]:
    """Mount points of a host in a list of mounts, innermost first.

    Args:
        host: The host.
        mounts: Content of /proc/self/mounts.
    """
    machine = host.lab.machine(host.name)
    points = [line.split()[1] for line in mounts.splitlines()]
    mine = [point for point in points if Path(point).is_relative_to(host.root) or Path(point).name == machine]
    return mine[::-1]


def remove(host: Host) -> None:
    """Clear a host and delete its files."""
    clear(host)
    shutil.rmtree(host.directory, ignore_errors=True)
    if host.directory.exists():
        raise LabError(f"{host.directory} cannot be removed")

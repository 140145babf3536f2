"""File systems that lab hosts start from: a plain Debian with an SSH server, made once and kept.

An image is a directory `images/<suite>-<digest>-<time>` with `rootfs/` and `image.json`. It gets that name only when
it is complete; the digest is that of the recipe, so a changed recipe or a changed machine makes a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import pkgutil
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import machine, remember
from .errors import LabError
from .plan import BASE, USER
from .run import locked, run, write_whole

# Counts changes of this file that the rest of the recipe does not show.
REVISION = 2
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
# They take apt's lock or the disk at times of their own, which no test could tell from a fault of ours.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty@tty1.service",
)
MAX_AGE_DAYS = 7.0
_BUILD_SECONDS = 900
# When this process is killed, all that it started ends, and its mounts go: they are in namespaces of their own.
_CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)


@dataclass(frozen=True)
class Recipe:
    """All that decides what an image is.

    Attributes:
        suite: Debian suite.
        sources: Lines of its sources.list.
        apt_settings: Content of its apt.conf of the machine's settings.
        authorities: Further certificate authorities, as PEM.
        packages: What is installed.
    """

    suite: str
    sources: tuple[str, ...]
    apt_settings: str
    authorities: tuple[str, ...]
    packages: tuple[str, ...] = PACKAGES

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with anything in the recipe."""
        content = [REVISION, bootstrap_command(self, Path("rootfs")), self.authorities, MASKED, remembering()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Image:
    """A complete image.

    Attributes:
        suite: Debian suite.
        path: Its root file system.
        built: Unix time of its making.
        digest: Digest of its recipe.
    """

    suite: str
    path: Path
    built: float
    digest: str

    def days(self, now: float) -> float:
        """Age in days."""
        return (now - self.built) / 86400


def recipe_of_machine(suite: str) -> Recipe:
    """The recipe for a suite on this machine."""
    return Recipe(
        suite=suite,
        sources=tuple(source.line() for source in machine.machine_sources(suite)),
        apt_settings=machine.machine_apt_settings(),
        authorities=tuple(machine.extra_authorities(known=_mozilla_bundle())),
    )


def remembering() -> str:
    """The source of what remembers compiled modules, as the hosts get it."""
    # Not inspect's: it reads an archive, as Ansible packs this, for one thread at a time; images are made side by side.
    source = pkgutil.get_data(__package__ or "", "remember.py")
    if source is None:
        raise LabError("this was packed without remember.py")
    return source.decode()


def _mozilla_bundle() -> str:
    """The certificates of Debian's own ca-certificates package, which every image has anyway."""
    directory = Path("/usr/share/ca-certificates/mozilla")
    return "".join(path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.crt")))


def images(base: Path = BASE) -> list[Image]:
    """All complete images, newest first."""
    found = []
    for file in (base / "images").glob("*/image.json"):
        if not file.parent.name.startswith("."):
            data = json.loads(file.read_text(encoding="utf-8"))
            found.append(Image(data["suite"], file.parent / "rootfs", data["built"], data["digest"]))
    return sorted(found, key=lambda image: image.built, reverse=True)


def usable(recipe: Recipe, found: Iterable[Image], *, now: float, max_age_days: float = MAX_AGE_DAYS) -> Image | None:
    """The newest image of this very recipe that is not too old; None when one must be built."""
    fitting = [image for image in found if image.digest == recipe.digest and image.days(now) <= max_age_days]
    return max(fitting, key=lambda image: image.built, default=None)


def bootstrap_command(recipe: Recipe, target: Path) -> list[str]:
    """The mmdebstrap command that makes the root file system."""
    command = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--skip=cleanup/apt/lists",
        f"--include={','.join(recipe.packages)}",
        "--aptopt=Acquire::Languages none",
        "--dpkgopt=force-unsafe-io",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
    ]
    command += [f"--aptopt={line}" for line in recipe.apt_settings.splitlines()]
    return [*command, recipe.suite, str(target), *recipe.sources]


def ensure(suite: str, *, base: Path = BASE, max_age_days: float = MAX_AGE_DAYS) -> tuple[Image, bool]:
    """Return the image of a suite, and whether it had to be built.

    Raises:
        LabError: It cannot be built.
    """
    lock = base / "images" / f"{suite}.lock"
    with locked(lock, seconds=_BUILD_SECONDS, busy=f"another process has been building the {suite} image for too long"):
        recipe = recipe_of_machine(suite)
        image = usable(recipe, images(base), now=time.time(), max_age_days=max_age_days)
        if image:
            return image, False
        return _build(recipe, base), True


def _build(recipe: Recipe, base: Path) -> Image:
    """Build an image under a name that nothing uses, then give it its own."""
    # Under the suite's lock nobody else is at it: what is there is what a killed build left.
    for left in (base / "images").glob(f".{recipe.suite}.*"):
        _remove(left)
    workshop = base / "images" / f".{recipe.suite}.{os.getpid()}.part"
    workshop.mkdir(parents=True)
    root = workshop / "rootfs"
    run([*_CONTAINED, *bootstrap_command(recipe, root)], timeout=_BUILD_SECONDS)
    _furnish(root, recipe)
    built = time.time()
    data = {"suite": recipe.suite, "digest": recipe.digest, "built": built}
    write_whole(workshop / "image.json", json.dumps(data) + "\n")
    final = base / "images" / f"{recipe.suite}-{recipe.digest}-{int(built)}"
    workshop.rename(final)
    return Image(recipe.suite, final / "rootfs", built, recipe.digest)


def _furnish(root: Path, recipe: Recipe) -> None:
    """Turn a freshly installed Debian into what every lab host has in common."""
    for number, pem in enumerate(recipe.authorities):
        (root / f"usr/local/share/ca-certificates/machine-{number}.crt").write_text(pem, encoding="utf-8")
    (root / "etc/ssh/sshd_config.d/10-lab.conf").write_text(
        "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\n", encoding="utf-8"
    )
    (root / "etc/apt/apt.conf.d/90lab").write_text('APT::Keep-Downloaded-Packages "true";\n', encoding="utf-8")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    sudoers = root / "etc/sudoers.d" / USER
    sudoers.write_text(f"{USER} ALL=(ALL) NOPASSWD: ALL\n", encoding="utf-8")
    sudoers.chmod(0o440)
    packages = root / "usr/lib/python3/dist-packages"
    (packages / "linkrift_lab_modules.py").write_text(remembering(), encoding="utf-8")
    (packages / "linkrift_lab_modules.pth").write_text("import linkrift_lab_modules\n", encoding="utf-8")
    (root / remember.CACHE.removeprefix("/")).mkdir(mode=0o700)
    chroot = ["chroot", str(root)]
    run([*chroot, "useradd", "--create-home", "--shell", "/bin/bash", USER])
    run([*chroot, "update-ca-certificates"])
    run([*chroot, "apt-cache", "gencaches"])
    run(["systemctl", f"--root={root}", "enable", "systemd-networkd.service"])
    run(["systemctl", f"--root={root}", "mask", *MASKED])
    for name in ("etc/resolv.conf", "etc/hostname", "etc/machine-id"):
        (root / name).unlink(missing_ok=True)


def prune(used: Iterable[Path], *, base: Path = BASE) -> list[Path]:
    """Remove images that no host uses and that a newer one of their suite replaced; return what went.

    One younger than an hour stays: a host may be about to start on it.
    """
    needed = {path.resolve() for path in used}
    kept: set[str] = set()
    removed = []
    for image in images(base):
        if image.suite not in kept:
            kept.add(image.suite)
        elif image.path.resolve() not in needed and image.days(time.time()) > 1 / 24:
            _remove(image.path.parent)
            removed.append(image.path.parent)
    return removed


def _remove(directory: Path) -> None:
    """Remove a directory tree, and first what is mounted in it; what cannot go yet goes with the next build."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        point = line.split()[1]
        if point.startswith(f"{directory}{os.sep}"):
            run(["umount", point])
    doomed = directory
    if not directory.name.startswith("."):
        # Half removed it must not look like an image.
        doomed = directory.with_name(f".{directory.name.split('-')[0]}.{directory.name}.gone")
        directory.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)

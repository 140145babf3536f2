"""The hosts a bundle is built for, and which locked requirement applies to which of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.markers import Marker

GLIBC: Final = range(28, 4, -1)
"""Minor versions of glibc 2 that wheels may need. Ubuntu 22.04 has 2.35, Debian 12 has 2.36."""

LEGACY_TAGS: Final = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}

PATCHES: Final = range(40)
"""Patch versions that a host's Python may have. A marker such as `python_full_version < '3.11.3'` tells them apart."""


@dataclass(frozen=True, order=True)
class BuildTarget:
    """CPython of one minor version on one architecture."""

    minor: int
    machine: str

    @property
    def name(self) -> str:
        """Name in the manifest, such as `cp311-x86_64`."""
        return f"{self.abi}-{self.machine}"

    @property
    def abi(self) -> str:
        """Tag of the interpreter, such as `cp311`."""
        return f"cp3{self.minor}"

    @property
    def python(self) -> str:
        """Version without the patch, such as `3.11`."""
        return f"3.{self.minor}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags of usable wheels, best first."""
        tags = []
        for minor in GLIBC:
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in LEGACY_TAGS:
                tags.append(f"{LEGACY_TAGS[minor]}_{self.machine}")
        return tuple(tags)

    def environments(self) -> Iterator[dict[str, str]]:
        """Yield what markers are evaluated against: one environment for every patch version."""
        for patch in PATCHES:
            full = f"{self.python}.{patch}"
            yield {
                "implementation_name": "cpython",
                "implementation_version": full,
                "os_name": "posix",
                "platform_machine": self.machine,
                "platform_python_implementation": "CPython",
                "platform_release": "",
                "platform_system": "Linux",
                "platform_version": "",
                "python_full_version": full,
                "python_version": self.python,
                "sys_platform": "linux",
            }

    def needs(self, marker: Marker | None, extra: str = "") -> bool:
        """Tell whether any patch version of this Python needs what the marker guards."""
        if marker is None:
            return True
        return any(marker.evaluate({**environment, "extra": extra}) for environment in self.environments())


TARGETS: Final = tuple(BuildTarget(minor, machine) for minor in (10, 11, 12, 13) for machine in ("x86_64", "aarch64"))

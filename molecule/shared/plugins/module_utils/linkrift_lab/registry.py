"""Which labs this machine has: who holds which number, and what to put back when the last one goes."""

from __future__ import annotations

import contextlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import LabError
from .plan import BASE, FREE_NUMBERS, NUMBERS, RESERVED, Lab, check_name
from .run import locked, write_whole


class Registry:
    """The machine's list of labs, read and written under a lock (see `opened`)."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self._path = base / "registry.json"
        self._data: dict[str, Any] = {"labs": {}, "kernel": {}}
        if self._path.exists():
            self._data |= json.loads(self._path.read_text(encoding="utf-8"))

    def labs(self) -> list[Lab]:
        """All labs, by number."""
        return [
            Lab(int(number), entry["name"], Path(entry["directory"]), self.base)
            for number, entry in sorted(self._data["labs"].items(), key=lambda item: int(item[0]))
        ]

    def find(self, directory: Path) -> Lab | None:
        """The lab that keeps its keys in this directory; None when there is none."""
        return next((lab for lab in self.labs() if lab.directory == directory), None)

    def take(self, name: str, directory: Path, number: int | None = None) -> Lab:
        """Return the lab of this directory, giving it a number when it is new.

        A name always starts looking at the same number, so a lab that comes and goes keeps its addresses as long as
        nobody else took them.

        Args:
            name: What people call it.
            directory: Where its user keeps its files; two labs never share one.
            number: The only number that will do; any free one when None.

        Raises:
            LabError: The number is another lab's, or none is left.
        """
        check_name(name, what="lab")
        if name in RESERVED:
            raise LabError(f"lab {name!r}: that name is taken by a directory of the main lab")
        held = {lab.number: lab for lab in self.labs()}
        mine = self.find(directory)
        if number is not None:
            if number not in NUMBERS:
                raise LabError(f"lab number {number}: {NUMBERS[0]} to {NUMBERS[-1]}, please")
            holder = held.get(number)
            if holder and holder.directory != directory:
                taken_by = f"lab {holder.name!r} of {holder.directory}"
                raise LabError(f"subnet {holder.network} is taken by {taken_by}: destroy that one first")
        if mine and number in (None, mine.number):
            return mine
        if mine:
            raise LabError(f"lab {mine.name!r} of {directory} has number {mine.number} already: destroy it first")
        if number is None:
            start = zlib.crc32(name.encode())
            order = (FREE_NUMBERS[(start + step) % len(FREE_NUMBERS)] for step in range(len(FREE_NUMBERS)))
            number = next((candidate for candidate in order if candidate not in held), None)
        if number is None:
            raise LabError(f"this machine has {len(held)} labs and no number left: destroy one")
        self._data["labs"][str(number)] = {"name": name, "directory": str(directory)}
        self._save()
        return Lab(number, name, directory, self.base)

    def release(self, lab: Lab) -> None:
        """Forget a lab."""
        self._data["labs"].pop(str(lab.number), None)
        self._save()

    @property
    def kernel(self) -> dict[str, str]:
        """The machine's kernel settings as they were before the first lab changed them, by path below /proc/sys."""
        return dict(self._data["kernel"])

    @kernel.setter
    def kernel(self, settings: dict[str, str]) -> None:
        self._data["kernel"] = settings
        self._save()

    def _save(self) -> None:
        write_whole(self._path, json.dumps(self._data, indent=2, sort_keys=True) + "\n")


@contextlib.contextmanager
def opened(base: Path = BASE) -> Iterator[Registry]:
    """The registry, locked for as long as the caller looks at it.

    Raises:
        LabError: Somebody else holds it for longer than any step on it takes.
    """
    with locked(base / "registry.lock", seconds=60, busy=f"{base}/registry.lock is held by another process"):
        yield Registry(base)


def lab_lock(lab: Lab) -> contextlib.AbstractContextManager[None]:
    """Lock one lab, so that it is not created and destroyed at once.

    Raises:
        LabError: Somebody else has been at it for longer than hosts take to boot. That may be what is left of a killed
            ansible-playbook: the module that it started goes on to its own end.
    """
    path = lab.base / "labs" / f"{lab.number}.lock"
    return locked(path, seconds=150, busy=f"lab {lab.name!r} is being created or destroyed by another process")

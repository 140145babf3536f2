# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backends file on disk: checked by HAProxy itself before it takes the old one's place."""

from __future__ import annotations

import contextlib
import grp
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive, sync_directory

Run = Callable[[Sequence[str]], tuple[int, str]]
"""Runs a program to its end; returns its status and everything it said."""

_NOTHING_TO_LISTEN_ON = "Configuration file has no error but will not start"
"""HAProxy's word for a configuration without frontends, such as one that the role has not written yet."""


class BackendsFileError(Exception):
    """The file cannot be written, or HAProxy refuses it; the old one is as it was."""


@dataclass(frozen=True)
class BackendsFile:
    """Where the file lies and how it is checked.

    Attributes:
        path: the backends file.
        main: HAProxy's main configuration, which is loaded before it.
        executable: the haproxy program.
        group: group of the file, empty to leave it.
        lock: file whose lock lets one run at a time change anything.
        run: runs the program.
    """

    path: Path
    main: Path
    executable: str
    group: str
    lock: Path
    run: Run

    @contextlib.contextmanager
    def only_run(self, deadline: float) -> Iterator[None]:
        """Hold the lock; it ends with this process, however that ends.

        Raises:
            BackendsFileError: another run held it for `deadline` seconds.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self.lock, deadline))
            except TimeoutError as error:
                raise BackendsFileError(f"another run changes the rotation of this balancer: {error}") from error
            yield

    def read(self) -> str | None:
        """Return the text; None when there is no file."""
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def prepare(self, text: str) -> None:
        """Write a candidate beside the file, and let HAProxy check it; `replace` puts it in the file's place.

        Raises:
            BackendsFileError: it could not be written, or HAProxy refuses it. Then there is none.
        """
        with self._candidate() as candidate:
            self._write(candidate, text)
            self._check(candidate)

    def replace(self, text: str, *, prepared: bool = False) -> None:
        """Put another text in the file's place in one step, once HAProxy has checked it.

        Args:
            text: what the file is to say.
            prepared: the candidate has it, as the last call of `prepare` left it.

        Raises:
            BackendsFileError: it could not be written, or HAProxy refuses it.
        """
        if not prepared:
            self.prepare(text)
        with self._candidate() as candidate:
            candidate.replace(self.path)
            sync_directory(self.path.parent)

    def discard(self) -> None:
        """Remove the candidate, if there is one."""
        with contextlib.suppress(OSError):
            self._new.unlink(missing_ok=True)

    @property
    def _new(self) -> Path:
        return self.path.with_name(f".{self.path.name}.new")

    @contextlib.contextmanager
    def _candidate(self) -> Iterator[Path]:
        """Name the candidate; it does not outlive a failure.

        Raises:
            BackendsFileError: something failed meanwhile.
        """
        try:
            yield self._new
        except BackendsFileError:
            self.discard()
            raise
        except (OSError, LookupError) as error:
            self.discard()
            raise BackendsFileError(f"{self.path} cannot be written: {error}") from error

    def _write(self, candidate: Path, text: str) -> None:
        candidate.unlink(missing_ok=True)
        descriptor = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o640)
            if self.group:
                os.fchown(stream.fileno(), -1, grp.getgrnam(self.group).gr_gid)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())

    def _check(self, candidate: Path) -> None:
        main = ["-f", str(self.main)] if self.main.exists() else []
        status, said = self.run([self.executable, "-c", *main, "-f", str(candidate)])
        if status != 0 and not (status == 2 and _NOTHING_TO_LISTEN_ON in said):
            raise BackendsFileError(
                f"HAProxy refuses the backends file that would replace {self.path}, which is as it was: {_alerts(said)}"
            )


def _alerts(said: str) -> str:
    """Return the alerts of HAProxy on one line, or all it said when there is none."""
    alerts = re.findall(r"^\[ALERT\]\s+(?:\(\d+\) : )?(.*)$", said, re.MULTILINE)
    return "; ".join(alerts) if alerts else " ".join(said.split())

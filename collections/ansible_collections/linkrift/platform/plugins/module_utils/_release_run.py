# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the module `release` does, without Ansible."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import open_source
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout, check_release_id, exclusive
from ansible_collections.linkrift.platform.plugins.module_utils._release import Installation, find_interpreter, flaws
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import (
    read_record,
    releases_on,
    removable,
    remove_parts,
    remove_release,
    users_of,
)


@dataclass(frozen=True)
class Wish:
    """The options of the module."""

    state: str = "present"
    release: str = ""
    source: str = ""
    ca_path: str | None = None
    digest: str | None = None
    keep: int = 3
    verify: bool = False
    python: Path = Path("/usr/bin/python3")
    timeout: float = 300
    lock_timeout: float = 300

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Wish:
        """Read the module's parameters.

        Raises:
            ValueError: the id is no release id, or `keep` is less than 1.
        """
        if parameters["keep"] < 1:
            msg = f"keep is {parameters['keep']}: at least one good release has to stay to go back to"
            raise ValueError(msg)
        return cls(
            state=parameters["state"],
            release="" if parameters["state"] == "pruned" else check_release_id(parameters["id"] or ""),
            source=parameters["source"] or "",
            ca_path=parameters["ca_path"],
            digest=parameters["digest"],
            keep=parameters["keep"],
            verify=parameters["verify"],
            python=Path(parameters["python"]),
            timeout=parameters["timeout"],
            lock_timeout=parameters["lock_timeout"],
        )


@dataclass
class Outcome:
    """What a wish came to."""

    wish: Wish
    layout: Layout
    before: list[str]
    after: list[str]
    reason: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    pruned: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """Return what the module returns."""
        result: dict[str, Any] = {
            "changed": bool(self.reason or self.pruned) or self.before != self.after,
            "pruned": self.pruned,
            "diff": {"before": {"releases": self.before}, "after": {"releases": self.after}},
        }
        if self.wish.release:
            result |= {"id": self.wish.release, "path": str(self.layout.release(self.wish.release))}
        if self.wish.state == "present":
            record = read_record(self.layout, self.wish.release)
            result |= {
                "record": record,
                "schema_level": record and record.get("schema_level"),
                "fetched": self.fetched,
                "reason": self.reason,
            }
        return result


def _unobserved(_name: str) -> None:
    """Let a step pass."""


def run(
    wish: Wish, layout: Layout | None = None, *, check: bool = False, step: Callable[[str], None] = _unobserved
) -> Outcome:
    """Bring the releases of a host into the wished state.

    Args:
        wish: what to do.
        layout: the host; by default this one.
        check: change nothing, tell what would be done.
        step: called with the name of each step of an installation before it is done.

    Raises:
        BundleError: the bundle cannot be used, or the release to remove is in use.
        TimeoutError: another run did not let go of the lock in time.
        OSError: a file cannot be read or written.
    """
    layout = layout or Layout()
    with _locked(layout, wish, check=check):
        before = releases_on(layout)
        outcome = Outcome(wish, layout, before, before)
        if wish.state == "present":
            _present(outcome, check=check, step=step)
        elif wish.state == "absent":
            _absent(outcome, check=check)
        if wish.state != "absent":
            _prune(outcome, check=check)
        return outcome


@contextlib.contextmanager
def _locked(layout: Layout, wish: Wish, *, check: bool) -> Iterator[None]:
    """Hold the lock of the releases; a run that changes nothing needs none."""
    if check:
        yield
        return
    # Before the directories are made: the services, which are not root, have to get through them.
    former = os.umask(0o022)
    try:
        layout.releases.mkdir(mode=0o755, parents=True, exist_ok=True)
        with exclusive(layout.releases_lock, wish.lock_timeout, inherited=True):
            yield
    finally:
        os.umask(former)


def _present(outcome: Outcome, *, check: bool, step: Callable[[str], None]) -> None:
    wish, layout = outcome.wish, outcome.layout
    interpreter = find_interpreter(wish.python)
    outcome.reason = flaws(layout, wish.release, interpreter, verify=wish.verify)
    if outcome.reason:
        outcome.after = sorted({*outcome.before, wish.release})
    if check or not outcome.reason:
        return
    source = open_source(wish.source, wish.release, wish.ca_path, wish.timeout)
    installed = Installation(layout, wish.release, source, interpreter, wish.digest, step).run()
    outcome.fetched = installed.fetched
    outcome.warnings = installed.warnings


def _absent(outcome: Outcome, *, check: bool) -> None:
    wish, layout = outcome.wish, outcome.layout
    users = users_of(layout).get(wish.release)
    if users:
        msg = f"release {wish.release} is in use by {', '.join(users)}: stop what uses it first (module slot)"
        raise BundleError(msg)
    outcome.after = [release for release in outcome.before if release != wish.release]
    if not check and wish.release in outcome.before:
        remove_release(layout, wish.release)


def _prune(outcome: Outcome, *, check: bool) -> None:
    wish, layout = outcome.wish, outcome.layout
    kept = [wish.release] if wish.release else []
    outcome.pruned = removable(layout, wish.keep, kept)
    outcome.after = [release for release in outcome.after if release not in outcome.pruned]
    if not check:
        for release in outcome.pruned:
            remove_release(layout, release)
        remove_parts(layout)

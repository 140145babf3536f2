# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The fleet's lock: a lease on each balancer, which says who changes the fleet, why, and until when.

A lease and no lock file of the usual kind: the run that holds it works from another machine, which can go away.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._paths import (
    exclusive,
    sync_directory,
    write_atomically,
)

FORMAT = 1
PATH = Path("/var/lib/linkrift/lock.json")
LOCK_DEADLINE = 30.0
"""Seconds to wait for another module that looks at the lease at the same time; each takes milliseconds."""
WORTH_WRITING = 0.1
"""Part of its length by which a lease must grow to be written anew, so that renewing it often costs nothing."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"
# It names files and is given on command lines.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")

Clock = Callable[[], datetime.datetime]
"""Tells the time, with its zone."""


class LeaseError(Exception):
    """The lease cannot be read, written, or is not as it must be; the message says what to do."""


class LeaseHeldError(LeaseError):
    """Somebody else holds it; the message says who, since when, until when, and what to do.

    Attributes:
        lease: theirs.
    """

    def __init__(self, message: str, lease: Lease) -> None:
        super().__init__(message)
        self.lease = lease


class LeaseLostError(LeaseError):
    """It was this run's, and is no more."""


@dataclass(frozen=True)
class Control:
    """The process that a run is, on its control node.

    Attributes:
        host: names the control node, as it is since its last boot; empty where that cannot be told.
        process: its number there; 0 where that is not known.
        started: when that process started, in that node's own terms: another one may get its number.
    """

    host: str = ""
    process: int = 0
    started: str = ""


@dataclass(frozen=True)
class Lease:
    """Who changes the fleet.

    Attributes:
        id: names the run.
        purpose: what it does, one word or a few.
        by: who runs it.
        control: its process.
        since: when it took the lease (UTC).
        until: when the lease ends by itself (UTC).
    """

    id: str
    purpose: str
    by: str
    control: Control
    since: datetime.datetime
    until: datetime.datetime

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is written, but for the format."""
        times = {"since": self.since.strftime(_TIME), "until": self.until.strftime(_TIME)}
        return {"id": self.id, "purpose": self.purpose, "by": self.by, "control": asdict(self.control), **times}

    def expired(self, now: datetime.datetime) -> bool:
        """Tell whether its time is over."""
        return self.until <= now

    def __str__(self) -> str:
        """Return it for a message."""
        return f"{self.purpose} {self.id} by {self.by}, since {self.since.strftime(_TIME)}"


@dataclass(frozen=True)
class Wish:
    """A run that wants the lease.

    Attributes:
        id: names the run.
        by: who runs it.
        control: its process.
        purpose: what it does.
        seconds: for how long, unless it is renewed.
        abandoned: ids of leases whose runs are known to be over.
        take_over: id of the lease to take over in any case.
        renew: only go on with a lease that is this run's already.
    """

    id: str
    by: str
    control: Control
    purpose: str
    seconds: int
    abandoned: Collection[str] = ()
    take_over: str = ""
    renew: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        before: the lease that there was.
        after: the lease that there is.
        taken_over: somebody else's that was ended.
        warning: what the operator should know; empty for nothing.
    """

    before: Lease | None
    after: Lease | None
    taken_over: Lease | None = None
    warning: str = ""


def utc_now() -> datetime.datetime:
    """Return the time in whole seconds, as leases have it."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def control_of(data: Mapping[str, Any] | None) -> Control:
    """Read a control process; what is missing is unknown.

    Raises:
        ValueError: the number of the process is none.
    """
    data = data or {}
    try:
        process = int(data.get("process") or 0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the number of its process is {data.get('process')!r}, which is none") from error
    return Control(str(data.get("host") or ""), process, str(data.get("started") or ""))


def check_id(text: str) -> str:
    """Return the id of a run.

    Raises:
        LeaseError: it is none.
    """
    if not _ID.fullmatch(text):
        raise LeaseError(f"{text!r} is no id of a run: up to 80 letters, digits and . _ + - are")
    return text


def one_line(name: str, text: str) -> str:
    """Return a text in one line.

    Raises:
        LeaseError: it is empty.
    """
    line = " ".join(text.split())
    if not line:
        raise LeaseError(f"{name} is empty: others are told it when they find the fleet locked")
    return line


def read(path: Path) -> Lease | None:
    """Return the lease, expired or not; None without one.

    Raises:
        LeaseError: it is malformed, or of another format.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise LeaseError(f"{path} cannot be read: {error}") from error
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise LeaseError(
                f"{path} has format {data['format']}, and this collection knows {FORMAT} only: use the collection that "
                "wrote it, or wait until that run is over"
            )
        return Lease(
            id=check_id(str(data["id"])),
            purpose=str(data["purpose"]),
            by=str(data["by"]),
            control=control_of(data["control"]),
            since=_parse_time(str(data["since"])),
            until=_parse_time(str(data["until"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LeaseError(
            f"{path} is damaged ({error}), so nobody knows whether the fleet is being changed: see that nobody is at "
            "it, then remove the file"
        ) from error


def _parse_time(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.timezone.utc)


def render(lease: Lease) -> str:
    """Return the file's text."""
    return json.dumps({"format": FORMAT, **lease.as_dict()}, indent=2, sort_keys=True) + "\n"


def decide(found: Lease | None, wish: Wish, now: datetime.datetime) -> Outcome:
    """Return what becomes of the lease when somebody wants it.

    Raises:
        LeaseHeldError: another run holds it.
        LeaseLostError: the run was to go on with its own, which is no more.
    """
    until = now + datetime.timedelta(seconds=wish.seconds)
    fresh = Lease(wish.id, wish.purpose, wish.by, wish.control, now, until)
    if found and found.id == wish.id:
        renewed = replace(fresh, since=found.since)
        worth = (until - found.until).total_seconds() > wish.seconds * WORTH_WRITING
        return Outcome(found, renewed if worth or replace(renewed, until=found.until) != found else found)
    if wish.renew:
        holder = f"it is held by {found}" if found else "nobody holds it now"
        raise LeaseLostError(
            f"this run ({wish.id}) has lost the fleet's lease, and {holder}: it was not renewed in time, or taken "
            "over. Begin anew, since what this run knows of the hosts may not be so any more"
        )
    if found is None:
        return Outcome(None, fresh)
    reasons = {
        f"it ended at {found.until.strftime(_TIME)}": found.expired(now),
        "its process is gone": found.id in wish.abandoned,
        "as take_over asks for": found.id == wish.take_over,
    }
    reason = next((name for name, true in reasons.items() if true), "")
    if not reason:
        raise LeaseHeldError(
            f"the fleet is being changed: {found}, until {found.until.strftime(_TIME)} if it is not renewed (in "
            f"{int((found.until - now).total_seconds())} s). Wait for that, or ask them. If that run is dead for "
            f"certain, take it over: take_over={found.id}",
            found,
        )
    warning = (
        f"took over the fleet's lease ({reason}): {found}. That run may have left something half done; what the hosts "
        "are counts, not what it meant to do"
    )
    return Outcome(found, fresh, taken_over=found, warning=warning)


def hold(path: Path, wish: Wish, *, write: bool, clock: Clock = utc_now) -> Outcome:
    """Take the lease, or renew it.

    Args:
        path: the lease's file.
        wish: who wants it.
        write: off to see what would come of it.
        clock: tells the time.

    Raises:
        LeaseError: somebody else holds it, or it cannot be read or written.
    """
    check_id(wish.id)
    if wish.seconds < 1:
        raise LeaseError(f"a lease of {wish.seconds} s is none: it has to last until it is renewed")
    wish = replace(wish, purpose=one_line("purpose", wish.purpose), by=one_line("owner.by", wish.by))
    with _alone(path, write):
        outcome = decide(read(path), wish, clock())
        if write and outcome.after and outcome.after != outcome.before:
            write_atomically(path, render(outcome.after), 0o644)
    return outcome


def free(path: Path, run: str, *, write: bool) -> Outcome:
    """End the lease of a run; somebody else's stays.

    Args:
        path: the lease's file.
        run: id of the run.
        write: off to see what would come of it.

    Raises:
        LeaseError: it cannot be read or removed.
    """
    check_id(run)
    if read(path) is None:
        return Outcome(None, None)
    with _alone(path, write):
        found = read(path)
        if found and found.id != run:
            return Outcome(found, found, warning=f"the fleet's lease is not this run's ({run}), so it stays: {found}")
        if found and write:
            path.unlink()
            sync_directory(path.parent)
    return Outcome(found, None)


@contextlib.contextmanager
def _alone(path: Path, write: bool) -> Iterator[None]:
    """See to it that nobody else decides at the same time."""
    try:
        with contextlib.ExitStack() as stack:
            if write:
                path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                stack.enter_context(exclusive(path.with_name(f"{path.name}.lock"), LOCK_DEADLINE))
            yield
    except OSError as error:
        raise LeaseError(f"{path}: {error}") from error

"""Run programs, write files whole, hold locks, wait for conditions."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .errors import LabError

POLL_SECONDS = 0.1


def run(argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60.0) -> str:
    """Run a program without a shell and return its standard output.

    Args:
        argv: The program and its arguments.
        stdin: Text for its standard input; nothing when None.
        timeout: Seconds after which it is killed.

    Raises:
        LabError: It is missing, took too long or exited non-zero; the text ends with its last words.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)}: not done after {timeout:.0f} s") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise LabError(f"{' '.join(argv)} exited {done.returncode}: {' | '.join(words)}")
    return done.stdout


def try_run(argv: Sequence[str], *, timeout: float = 60.0) -> bool:
    """Run a program and tell whether it exited zero; for questions and for removing what may be gone already."""
    try:
        run(argv, timeout=timeout)
    except LabError:
        return False
    return True


def write_whole(path: Path, text: str, *, mode: int = 0o644, owner: tuple[int, int] | None = None) -> None:
    """Write a file so that a reader, or a kill at any moment, sees the old content or the new, never a part.

    Args:
        path: The file; its directory exists.
        text: The content.
        mode: Permission bits.
        owner: User and group id; those of this process when None.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    if owner is not None:
        os.chown(beside, *owner)
    beside.chmod(mode)
    beside.replace(path)


def wait_for(condition: Callable[[], bool], *, seconds: float, poll: float = POLL_SECONDS) -> bool:
    """Ask until the condition holds or the time is over; tell whether it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll)
    return True


@contextlib.contextmanager
def locked(path: Path, *, seconds: float, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; the kernel lets go of it when the holder dies.

    Args:
        path: The lock file, made when missing.
        seconds: How long to wait for another holder.
        busy: What to say when it is still held then.

    Raises:
        LabError: Another process holds it for longer than that.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:

        def taken() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        if not wait_for(taken, seconds=seconds):
            raise LabError(busy)
        yield

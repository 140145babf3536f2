"""One server process of a test: started, waited for, stopped, and gone when the test run is."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

STARTUP_SECONDS = 30.0
SHUTDOWN_SECONDS = 20.0
# Below Linux's own range (net.ipv4.ip_local_port_range).
_PORTS = range(10_000, 32_768)
# As many are reserved at a time: one for each would keep a file open for each.
_BLOCK = 64
_ours: list[int] = []


class MissingPackageError(RuntimeError):
    """A server program is not on this machine; the message names the Debian package that has it."""


class ServerError(RuntimeError):
    """A server did not start, did not answer in time or did not stop; the message carries the end of its log."""


def find_program(name: str, package: str, *directories: str) -> str:
    """Find a server's program.

    Args:
        name: the program, for example `redis-server`.
        package: the Debian package that brings it.
        directories: searched after PATH, in this order.

    Returns:
        The program's path.

    Raises:
        MissingPackageError: it is not there.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", *directories])
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingPackageError(f"these tests need {name}: apt-get install --no-install-recommends {package}")
    return found


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is nobody's, and for as long as this process lives no other test's.

    It is below those that the kernel gives to whoever connects, so that none of them gets it before a server has it.
    """
    while True:
        while _ours:
            port = _ours.pop()
            with suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                return port
        _ours.extend(_reserve())


def _reserve() -> range:
    """Return a block of ports that no other process of tests has, and keep it until this one ends."""
    blocks = [_PORTS[first : first + _BLOCK] for first in range(0, len(_PORTS), _BLOCK)]
    for block in secrets.SystemRandom().sample(blocks, len(blocks)):
        reservation = socket.socket(socket.AF_UNIX)
        try:
            # Abstract names are gone with whoever has them.
            reservation.bind(f"\0linkrift-test-ports-{block.start}")
        except OSError:
            reservation.close()
            continue
        reservation.detach()  # open until this process ends
        return block
    raise ServerError("no port of 127.0.0.1 is free")


class ServerProcess:
    """A server of a test.

    It is sent SIGTERM when the thread that started it ends, however that ends, so a test run that is killed leaves
    nothing behind. For that reason only the main thread can start it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        answers: Callable[[], bool],
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Describe the server; nothing is started yet.

        Args:
            command: program and arguments.
            log: file that takes its standard output and error.
            answers: asked until it says True; exceptions of type OSError count as no.
            user: the user it runs as, where we are root and the program refuses root.
            stop_signal: what stops it in an orderly way.
        """
        identity = [] if user is None else ["--reuid", user, "--regid", user, "--init-groups"]
        self._command = ["setpriv", *identity, "--pdeathsig", "TERM", "--", *command]
        self._log = log
        self._answers = answers
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            ServerError: it ended or did not answer within STARTUP_SECONDS.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("servers are started from the main thread: they end with the thread that started them")
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._process = process
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise ServerError(f"{self._command[-1]} ended with {process.returncode}: {self._tail()}")
            try:
                if self._answers():
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(0.02)
        self.kill()
        raise ServerError(f"no answer within {STARTUP_SECONDS:.0f} s from {self._command}: {self._tail()}")

    def stop(self) -> None:
        """Stop it in an orderly way; nothing happens when it does not run.

        Raises:
            ServerError: it was still there after SHUTDOWN_SECONDS (and was killed).
        """
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self._stop_signal)
        try:
            process.wait(SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"did not stop within {SHUTDOWN_SECONDS:.0f} s: {self._tail()}") from None

    def kill(self) -> None:
        """Kill it and its children, as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            self._signal_all(signal.SIGKILL)
            self._process.wait()

    def freeze(self) -> None:
        """Stop its clock: connections are accepted by the kernel and nothing answers (a hung server)."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        """Send a signal to it and its children (PostgreSQL's leave its process group)."""
        if self._process is None or self._process.poll() is not None:
            return
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for each in (pid, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(each, number)

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

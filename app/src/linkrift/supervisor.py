"""The parent of a slot's processes: starts them, says when all are ready, starts again what dies, stops them all."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from linkrift.systemd import Notifier

LOG = logging.getLogger(__name__)

EX_CONFIG = 78
BACKOFF_FIRST_SECONDS = 0.1
BACKOFF_MOST_SECONDS = 5.0
STEADY_SECONDS = 30.0
KILL_AFTER_SECONDS = 5.0

# Called in a new process with its index, a call that reports it ready, and a descriptor that becomes readable when
# the parent is gone. Returns when the process was told to stop.
Child = Callable[[int, Callable[[], None], int], None]


@dataclass
class _Process:
    """One of the processes, as the parent sees it. Times are time.monotonic()."""

    index: int
    pid: int = 0
    ready_pipe: int = -1
    ready: bool = False
    started_at: float = 0.0
    start_again_at: float | None = None
    backoff: float = BACKOFF_FIRST_SECONDS


class Supervisor:
    """Runs N processes until SIGTERM or SIGINT.

    A process that ends before all were ready ends the whole: the service manager is told nothing but the truth. Later
    a process that dies is started again, ever more slowly while it keeps dying.
    """

    def __init__(
        self,
        processes: int,
        child: Child,
        notifier: Notifier,
        *,
        shutdown_timeout: float,
        on_death: Callable[[int, int], None],
    ) -> None:
        """Prepare; `run` starts them.

        Args:
            processes: how many.
            child: what each of them runs.
            notifier: tells the service manager.
            shutdown_timeout: seconds that they have to stop by themselves.
            on_death: called with index and process id of one that ended.
        """
        self._processes = [_Process(index) for index in range(processes)]
        self._child = child
        self._notifier = notifier
        self._shutdown_timeout = shutdown_timeout
        self._on_death = on_death
        self._selector = selectors.DefaultSelector()
        self._all_ready = False
        self._stop_requested = False
        self._stop_signalled = False
        self._kill_at: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Run until stopped.

        Returns:
            The exit code: 0 after an orderly stop, otherwise that of the process that failed.
        """
        wake_read, wake_write = socket.socketpair()
        for end in (wake_read, wake_write):
            end.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # waking up is all that it is for
        for number in (signal.SIGHUP, signal.SIGUSR1):
            # A log rotation that signals everything must not stop redirects.
            signal.signal(number, signal.SIG_IGN)
        self._selector.register(wake_read, selectors.EVENT_READ)
        self._lifeline, self._lifeline_write = os.pipe()
        try:
            for process in self._processes:
                self._start(process)
            while any(process.pid for process in self._processes) or not self._stop_requested:
                self._step()
        finally:
            signal.set_wakeup_fd(-1)
            self._selector.close()
            for end in (wake_read, wake_write):
                end.close()
            os.close(self._lifeline)
            os.close(self._lifeline_write)
        return self._exit_code

    def _step(self) -> None:
        """Wait for the next event and deal with it."""
        for key, _ in self._selector.select(self._seconds_to_next()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.recv(4096)
            else:
                self._read_ready_pipe(key.data)
        if self._stop_signalled:
            self._request_stop("draining")
        self._reap()
        now = time.monotonic()
        if self._stop_requested:
            self._forward_stop(now)
            return
        for process in self._processes:
            if process.start_again_at is not None and now >= process.start_again_at:
                self._start(process)

    def _seconds_to_next(self) -> float | None:
        times = [process.start_again_at for process in self._processes if process.start_again_at is not None]
        if self._kill_at is not None:
            times.append(self._kill_at)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _start(self, process: _Process) -> None:
        ready_read, ready_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._become_child(process.index, ready_read, ready_write)
        os.close(ready_write)
        process.pid, process.ready_pipe, process.ready = pid, ready_read, False
        process.started_at, process.start_again_at = time.monotonic(), None
        self._selector.register(ready_read, selectors.EVENT_READ, process)

    def _become_child(self, index: int, ready_read: int, ready_write: int) -> None:
        """Run the child in the process that was just forked; does not return."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            os.close(ready_read)
            os.close(self._lifeline_write)

            def report_ready() -> None:
                os.write(ready_write, b"1")

            self._child(index, report_ready, self._lifeline)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            LOG.critical("process %d failed", index, exc_info=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: what the parent registered to clean up is the parent's.
            os._exit(code)

    def _read_ready_pipe(self, process: _Process) -> None:
        """Take the report of a process; an empty one means that it ended before it was ready."""
        process.ready = os.read(process.ready_pipe, 1) == b"1"
        self._forget_pipe(process)
        if self._stop_requested:
            return
        ready = sum(process.ready for process in self._processes)
        status = f"{ready} of {len(self._processes)} processes serving"
        if self._all_ready or ready < len(self._processes):
            self._notifier.status(status)
        else:
            self._all_ready = True
            self._notifier.ready(status)

    def _reap(self) -> None:
        for process in self._processes:
            if not process.pid:
                continue
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                self._ended(process, os.waitstatus_to_exitcode(status))

    def _ended(self, process: _Process, code: int) -> None:
        pid, process.pid = process.pid, 0
        was_ready, process.ready = process.ready, False
        self._forget_pipe(process)
        self._on_death(process.index, pid)
        if self._stop_requested:
            # One that was still starting may have had no handler for SIGTERM yet.
            if code and (was_ready or code != -signal.SIGTERM):
                self._exit_code = self._exit_code or 1
                LOG.error("process %d ended with %d while stopping", process.index, code)
            return
        if not self._all_ready:
            LOG.error("process %d ended with %d before it was ready; giving up", process.index, code)
            self._exit_code = code if code in (1, EX_CONFIG) else 1
            self._request_stop("failed to start")
            return
        lived = time.monotonic() - process.started_at
        if was_ready and lived >= STEADY_SECONDS:
            process.backoff = BACKOFF_FIRST_SECONDS
        LOG.error("process %d ended with %d; starting it again in %.1f s", process.index, code, process.backoff)
        process.start_again_at = time.monotonic() + process.backoff
        process.backoff = min(process.backoff * 2, BACKOFF_MOST_SECONDS)
        left = sum(other.ready for other in self._processes)
        self._notifier.status(f"{left} of {len(self._processes)} processes serving")

    def _forget_pipe(self, process: _Process) -> None:
        if process.ready_pipe >= 0:
            self._selector.unregister(process.ready_pipe)
            os.close(process.ready_pipe)
            process.ready_pipe = -1

    def _on_stop_signal(self, _number: int, _frame: object) -> None:
        # It may come in the middle of telling something else, which would then be told after the end.
        self._stop_signalled = True

    def _request_stop(self, status: str) -> None:
        if not self._stop_requested:
            self._stop_requested = True
            self._notifier.stopping(status)

    def _forward_stop(self, now: float) -> None:
        """Tell the processes to stop, once; kill those that did not in time."""
        if self._kill_at is None:
            self._kill_at = now + self._shutdown_timeout + KILL_AFTER_SECONDS
            self._signal_all(signal.SIGTERM)
        elif now >= self._kill_at:
            LOG.error("processes did not stop in time; killing them")
            self._exit_code = self._exit_code or 1
            self._kill_at = now + KILL_AFTER_SECONDS
            self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.pid:
                os.kill(process.pid, number)

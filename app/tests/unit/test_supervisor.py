"""The parent of a slot's processes. The children here are functions; they steer the parent by signals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from linkrift import supervisor
from linkrift.supervisor import EX_CONFIG, Supervisor
from linkrift.systemd import Notifier


class Recorder(Notifier):
    def __init__(self) -> None:
        super().__init__(None)
        self.messages: list[str] = []

    def _send(self, message: str) -> None:
        self.messages.append(message)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def wait_for_stop(lifeline: int) -> None:
    """What a well-behaved child does once it is ready."""
    signal.sigwait({signal.SIGTERM})


def block_stop() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def supervise(
    processes: int, child: Callable[[int, Callable[[], None], int], None], shutdown_timeout: float = 5.0
) -> tuple[int, list[str], list[int]]:
    recorder = Recorder()
    deaths: list[int] = []
    code = Supervisor(
        processes,
        child,
        recorder,
        shutdown_timeout=shutdown_timeout,
        on_death=lambda index, pid: deaths.append(index),
    ).run()
    return code, recorder.messages, deaths


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_ready_when_all_are_and_stopped_together(tmp_path: Path) -> None:
    def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
        block_stop()
        if index == 1:
            wait_for(tmp_path / "0")
        (tmp_path / str(index)).touch()
        report_ready()
        if index == 1:
            os.kill(os.getppid(), signal.SIGTERM)
        wait_for_stop(lifeline)

    code, messages, deaths = supervise(2, child)
    assert code == 0
    assert sorted(deaths) == [0, 1]
    assert messages[-1] == "STOPPING=1\nSTATUS=draining"
    assert not any("READY=1" in message and "2 of 2" not in message for message in messages)


def test_log_rotation_signals_stop_nothing() -> None:
    def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
        block_stop()
        report_ready()
        for number in (signal.SIGHUP, signal.SIGUSR1):
            os.kill(os.getppid(), number)
            os.kill(os.getpid(), number)
        os.kill(os.getppid(), signal.SIGINT)
        wait_for_stop(lifeline)

    assert supervise(1, child)[0] == 0


@pytest.mark.parametrize(("exit_code", "expected"), [(EX_CONFIG, EX_CONFIG), (1, 1), (7, 1)])
def test_a_process_that_ends_before_all_are_ready_ends_the_whole(exit_code: int, expected: int) -> None:
    def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
        block_stop()
        if index == 1:
            raise SystemExit(exit_code)
        report_ready()
        wait_for_stop(lifeline)

    code, messages, _ = supervise(2, child)
    assert code == expected
    assert "STOPPING=1\nSTATUS=failed to start" in messages
    assert not any("READY=1" in message for message in messages)


def test_an_exception_in_a_process_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
        raise ValueError("broken")

    assert supervise(1, child)[0] == 1
    assert "process 0 ended with 1 before it was ready" in caplog.text


def test_a_process_that_dies_is_started_again_ever_more_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "BACKOFF_FIRST_SECONDS", 0.02)

    def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
        block_stop()
        report_ready()
        lives = len(list(tmp_path.iterdir()))
        (tmp_path / str(lives)).touch()
        if lives < 3:
            # Not before the parent has said that all are ready.
            time.sleep(0.05)
            os._exit(9)
        os.kill(os.getppid(), signal.SIGTERM)
        wait_for_stop(lifeline)

    code, messages, deaths = supervise(1, child)
    assert code == 0
    assert deaths == [0, 0, 0, 0]
    assert messages[0] == "READY=1\nSTATUS=1 of 1 processes serving"
    assert "STATUS=0 of 1 processes serving" in messages
    waits = [record.args[2] for record in caplog.records if isinstance(record.args, tuple) and len(record.args) == 3]
    assert waits == pytest.approx([0.1, 0.2, 0.4])


def test_a_process_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "KILL_AFTER_SECONDS", 0.1)

    def child(index: int, report_ready: Callable[[], None], lifeline: int) -> None:
        block_stop()
        report_ready()
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)

    started = time.monotonic()
    assert supervise(1, child, shutdown_timeout=0.1)[0] == 1
    assert time.monotonic() - started < 10

"""The small parts that all services share."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from linkrift import logs, tasks
from linkrift.admission import Admission
from linkrift.board import Board
from linkrift.health import Health, State
from linkrift.lifecycle import Activity, drained, listening_socket
from linkrift.release import read_release
from linkrift.request_ids import RequestIds
from linkrift.systemd import Notifier


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("asyncio").filters.clear()


@pytest.mark.usefixtures("root_logger")
def test_logs_are_json_with_the_request_they_belong_to() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", {"service": "api", "slot": "blue", "version": "1+x"}, stream)
    token = logs.request_id.set("visit-1")
    logger = logging.getLogger("test")
    logger.info("hällo\n%s", "world", extra={"code": "abc"})
    logger.debug("not this")
    logs.request_id.reset(token)
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["message"], first["request_id"], first["code"]) == ("hällo\nworld", "visit-1", "abc")
    assert (first["service"], first["slot"], first["version"], first["level"]) == ("api", "blue", "1+x", "info")
    assert "request_id" not in second
    assert "ValueError: broken" in second["exception"]


@pytest.mark.usefixtures("root_logger")
def test_logs_can_be_text() -> None:
    stream = io.StringIO()
    logs.configure("warn", "text", {}, stream)
    logging.getLogger("test").info("not this")
    logging.getLogger("test").warning("this")
    assert stream.getvalue().endswith("WARNING test this\n")


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize(
    ("message", "error", "level"),
    [
        ("Fatal error on SSL protocol\nprotocol: x", RuntimeError("…; the handler is closed"), "warning"),
        ("Fatal error on SSL protocol\nprotocol: x", OSError("broken"), "error"),
        ("Task exception was never retrieved", RuntimeError("…; the handler is closed"), "error"),
        ("Fatal error on SSL protocol", None, "error"),
    ],
)
def test_a_connection_that_was_closed_meanwhile_is_no_error_of_ours(
    message: str, error: Exception | None, level: str
) -> None:
    stream = io.StringIO()
    logs.configure("info", "json", {}, stream)
    logging.getLogger("asyncio").error(message, exc_info=error)
    found = json.loads(stream.getvalue())
    assert (found["level"], found["message"]) == (level, message)


def test_admission_is_looked_at_again_after_a_moment(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "blue.admitted"
    admission = Admission(path, clock=lambda: now)
    assert not admission.admitted()
    path.touch()
    now = 0.1
    assert not admission.admitted()
    now = 0.2
    assert admission.admitted()
    assert Admission(None).admitted()


def test_what_a_balancer_learns_of_the_host(tmp_path: Path) -> None:
    path, link = tmp_path / "blue.admitted", tmp_path / "live"
    unknown = {"admitted": False, "admitted_seconds": None, "live_slot": None, "live_seconds": None}
    assert Admission(path, link).standing() == unknown
    assert Admission(None).standing() == unknown | {"admitted": True}
    path.touch()
    # The age is the link's own: what it names need not be there.
    link.symlink_to("green")
    minute = time.time() - 60
    os.utime(link, (minute, minute), follow_symlinks=False)
    standing = Admission(path, link).standing()
    assert (standing["admitted"], standing["live_slot"]) == (True, "green")
    assert 0 <= float(standing["admitted_seconds"] or 0) < 60 <= float(standing["live_seconds"] or 0) < 120


def test_the_board_adds_up_what_the_processes_say() -> None:
    board = Board(3)
    assert board.totals().pids == ()
    board.write(0, 11, paused=True, pending=2)
    assert board.totals().due is None
    board.write(2, 13, paused=True, pending=5, due=7.0)
    totals = board.totals()
    assert totals.due == 7.0
    assert (totals.pids, totals.paused, totals.pending) == ((11, 13), True, 7)
    board.write(1, 12, paused=False)
    assert not board.totals().paused
    board.write(1, 0)
    assert board.totals().paused


async def away() -> None:
    raise ConnectionRefusedError("no route")


async def fine() -> None:
    return


async def test_health_through_a_process_life(tmp_path: Path) -> None:
    path = tmp_path / "blue.admitted"
    health = Health("api", "1+x", "blue", Admission(path), {"a": fine}, lambda: {"paused": True})

    async def ask(where: str) -> tuple[int, str]:
        answer = await health.answer(where)
        assert answer is not None
        return answer[0], answer[1]["status"]

    assert await ask("/health") == (503, "starting")
    assert await ask("/health/startup") == (503, "starting")
    assert await ask("/health/ready") == (503, "starting")
    assert await ask("/health/live") == (200, "alive")
    health.state = State.SERVING
    assert await ask("/health") == (404, "standby")
    assert await ask("/health/ready") == (200, "ready")
    assert await ask("/health/startup") == (200, "started")
    path.touch()
    health = Health("api", "1+x", "blue", Admission(path), {"a": fine}, lambda: {"paused": True})
    health.state = State.SERVING
    assert await ask("/health") == (200, "live")
    health.state = State.DRAINING
    assert await ask("/health") == (503, "draining")
    assert await ask("/health/live") == (200, "alive")
    assert await health.answer("/health/other") is None
    document = (await health.answer("/health") or (0, {}))[1]
    assert (document["slot"], document["paused"], document["admitted"]) == ("blue", True, True)
    assert document["timestamp"].endswith("Z")


async def test_readiness_names_what_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr("linkrift.health.CHECK_SECONDS", 0.02)
    health = Health("api", "1+x", "", Admission(None), {"a": fine, "b": away, "c": hangs})
    health.state = State.SERVING
    status, document = await health.answer("/health/ready") or (0, {})
    assert (status, document["status"]) == (503, "unavailable")
    checks = document["checks"]
    assert [checks[name]["status"] for name in "abc"] == ["healthy", "unhealthy", "unhealthy"]
    assert checks["a"]["error"] is None
    assert checks["b"]["error"] == "ConnectionRefusedError: no route"
    assert checks["c"]["error"] == "no answer within 0.02 s"
    # The shared stores are none of a balancer's business.
    assert (await health.answer("/health") or (0, {}))[0] == 200


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notifier = Notifier.from_environment()
        assert "NOTIFY_SOCKET" not in os.environ
        notifier.ready("fine")
        notifier.status("so so")
        notifier.stopping("bye")
        assert [listener.recv(100) for _ in range(3)] == [
            *(b"READY=1\nSTATUS=fine", b"STATUS=so so", b"STOPPING=1\nSTATUS=bye")
        ]
    notifier.status("nobody listens")
    Notifier.from_environment().ready("nobody asked")


def test_systemd_in_the_abstract_namespace() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"linkrift-test-{os.getpid()}"
        listener.bind("\0" + name)
        Notifier("@" + name).status("fine")
        assert listener.recv(100) == b"STATUS=fine"


def test_the_release_is_read_from_its_tree(tmp_path: Path) -> None:
    assert read_release(tmp_path).id.endswith("+dev")
    (tmp_path / "release.json").write_text("{")
    assert read_release(tmp_path).id.endswith("+dev")
    (tmp_path / "release.json").write_text(
        json.dumps({"id": "1.4.0+3f9c2a71b0de", "version": "1.4.0", "commit": "abc"})
    )
    (tmp_path / "manifest.json").write_text(json.dumps({"branch": "main", "commit_time": "2026-01-02T03:04:05Z"}))
    release = read_release(tmp_path)
    assert (release.id, release.version, release.commit) == ("1.4.0+3f9c2a71b0de", "1.4.0", "abc")
    assert (release.branch, release.commit_time) == ("main", "2026-01-02T03:04:05Z")


def test_request_ids_are_taken_or_made() -> None:
    ids = RequestIds()
    assert ids.of("visit-1") == "visit-1"
    made = [ids.of(header) for header in (None, "", "x" * 129, "a\x07b", "ä", "a\r\nb")]
    assert len(set(made)) == 6
    assert all(len(item) == 24 and item.isalnum() for item in made)


def test_a_port_belongs_to_the_processes_of_one_slot() -> None:
    with listening_socket("127.0.0.1", 0, shared=True) as first:
        first.listen()
        port = first.getsockname()[1]
        with listening_socket("127.0.0.1", port, shared=True):
            pass
        with pytest.raises(OSError, match="in use"):
            listening_socket("127.0.0.1", port, shared=False)


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_the_wildcard_takes_both_kinds_of_addresses() -> None:
    with listening_socket("::", 0, shared=False) as listener:
        listener.listen()
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
            pass


async def test_drained_waits_for_answers_and_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkrift.lifecycle.QUIET_SECONDS", 0.2)
    assert await drained(Activity(), 0.0), "a slot that nobody asks is drained at once"
    activity = Activity(last=time.monotonic(), unanswered=1)
    waiting = asyncio.create_task(drained(activity, 10.0))
    await asyncio.sleep(0.4)
    assert not waiting.done(), "a request is unanswered"
    activity.last = time.monotonic()
    activity.unanswered = 0
    await asyncio.sleep(0.1)
    assert not waiting.done(), "one came just now"
    assert await waiting
    activity.unanswered = 1
    assert not await drained(activity, 0.1), "the deadline passed"


async def test_a_task_that_loses_a_cancellation_ends_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            lost += 1
        await asyncio.sleep(60)

    async def broken() -> None:
        raise ValueError("broken")

    running = [asyncio.create_task(forgetful()), asyncio.create_task(broken())]
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.end(running), 5.0)
    assert lost == 2
    assert "ValueError: broken" in caplog.text

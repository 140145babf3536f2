"""The audit log: what a line says, and that lines get into the file."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import multiprocessing
import os
import threading
import uuid
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from linkrift import logs
from linkrift.api.audit import AuditLog
from linkrift.api.service import ApiService
from linkrift.visitors import VisitorNetworks

ACCOUNT = uuid.UUID("6b2f3c1e-0000-4000-8000-000000000001")
TRUSTED = VisitorNetworks((ipaddress.ip_network("0.0.0.0/0"),))


def make(path: Path | None) -> AuditLog:
    return AuditLog(path, TRUSTED, {"slot": "blue"})


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_a_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = make(path)
    request = make_mocked_request("POST", "/", headers={"X-Forwarded-For": "203.0.113.77"})
    logs.request_id.set("request-1")
    request = request.clone(remote="198.51.100.1")
    audit.record(request, "link.create", account=ACCOUNT, code="abc", target="example.com")
    await audit.flush(5.0)
    (line,) = lines(path)
    assert str(line.pop("time")).endswith("+00:00")
    assert line == {
        "action": "link.create",
        "outcome": "ok",
        "account": str(ACCOUNT),
        "network": "203.0.113.0",
        "request_id": "request-1",
        "slot": "blue",
        "code": "abc",
        "target": "example.com",
    }


async def test_a_moved_file_is_left_alone_and_its_readers_may_read_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    audit = make(path)
    request = make_mocked_request("POST", "/")
    umask = os.umask(0o077)
    try:
        for number in range(3):
            audit.record(request, f"before-{number}")
        await asyncio.gather(*audit._waiting)
        path.rename(tmp_path / "audit.log.1")
        audit.record(request, "after")
        await audit.flush(5.0)
    finally:
        os.umask(umask)
    assert [line["action"] for line in lines(tmp_path / "audit.log.1")] == ["before-0", "before-1", "before-2"]
    assert [line["action"] for line in lines(path)] == ["after"]
    assert path.stat().st_mode & 0o777 == 0o640


def _write_many(path: Path, name: str) -> None:
    async def write() -> None:
        audit = make(path)
        for number in range(200):
            audit.record(make_mocked_request("POST", "/"), name, number=number, filler="x" * 500)
        await audit.flush(10.0)

    asyncio.run(write())


def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, name)) for name in ("one", "two")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = lines(path)
    for name in ("one", "two"):
        assert [line["number"] for line in found if line["action"] == name] == list(range(200))


async def test_writing_is_not_the_loops_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audit = make(tmp_path / "audit.log")
    threads: list[int] = []
    monkeypatch.setattr(AuditLog, "_append", lambda self, path, line: threads.append(threading.get_ident()))
    audit.record(make_mocked_request("POST", "/"), "x")
    await audit.flush(5.0)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_what_the_disk_does_not_take_is_in_the_services_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(tmp_path / "missing" / "audit.log")
    audit.record(make_mocked_request("POST", "/"), "link.delete", account=ACCOUNT)
    await audit.flush(5.0)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "link.delete" in record.__dict__["audit"]


async def test_a_torn_line_stands_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "audit.log"
    audit = make(path)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
        audit._append(path, '{"action":"torn"}')
    audit._append(path, '{"action":"whole"}')
    assert path.read_text().splitlines() == ['{"actio', '{"action":"whole"}']
    await audit.flush(1.0)


async def test_without_a_file_and_after_the_end_lines_go_to_the_services_log(caplog: pytest.LogCaptureFixture) -> None:
    audit = make(None)
    with caplog.at_level(logging.INFO):
        audit.record(make_mocked_request("POST", "/"), "one")
        await audit.flush(1.0)
        audit.record(make_mocked_request("POST", "/"), "two")
    assert [record.__dict__["audit"]["action"] for record in caplog.records if record.message == "audit"] == [
        "one",
        "two",
    ]


async def test_a_disk_that_hangs_neither_holds_the_end_up_nor_loses_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    audit = make(tmp_path / "audit.log")
    hangs = threading.Event()
    written: list[str] = []

    def append(_self: AuditLog, _path: Path, line: str) -> None:
        hangs.wait(30)
        written.append(json.loads(line)["action"])

    monkeypatch.setattr(AuditLog, "_append", append)
    try:
        for number in range(3):
            audit.record(make_mocked_request("POST", "/"), f"action-{number}")
        await asyncio.wait_for(audit.flush(0.05), 5)
    finally:
        hangs.set()
    told = [json.loads(record.__dict__["audit"])["action"] for record in caplog.records]
    assert told == ["action-0", "action-1", "action-2"]
    audit._executor.shutdown(wait=True)
    assert written == ["action-0"]


async def test_at_the_end_neither_the_audit_log_nor_redis_takes_the_others_time() -> None:
    arrived = [asyncio.Event(), asyncio.Event()]
    deadlines: list[float] = []

    class Flushes:
        def __init__(self, own: int) -> None:
            self._own = own

        async def flush(self, deadline_seconds: float) -> None:
            deadlines.append(deadline_seconds)
            arrived[self._own].set()
            await arrived[1 - self._own].wait()

    service = object.__new__(ApiService)
    vars(service).update({"_tasks": [], "_audit": Flushes(0), "_invalidation": Flushes(1)})
    await asyncio.wait_for(service.flush(10.0), 5)
    assert deadlines == [10.0, 10.0]

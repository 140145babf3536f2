"""Releases that go wrong on purpose: that each fault does what it says, that bundles have it, and that ours do not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.http_parser import RawRequestMessage

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from linkrift import commands
from linkrift.admission import Admission
from linkrift.board import Board
from linkrift.connections import Connection, Server
from linkrift.environment import ConfigurationError
from linkrift.health import Health, State
from linkrift.lifecycle import Activity, Process
from linkrift.settings import ProcessSettings
from linkrift.worker.consumer import Consumer
from tools.bundle import ROOT, wheels
from tools.bundle import build as bundle_build
from tools.bundle.archive import verify_archive
from tools.bundle.project import build_wheel
from tools.bundle.targets import TARGETS
from tools.testing import faulty
from tools.testing.faulty import __main__ as command_line
from tools.testing.faulty import switchable_faults
from tools.testing.faulty.build import BRANCH, OVERLAY, Wish, change
from tools.testing.faulty.switchable_faults import Fault, FaultyProgram, FaultyService, read_fault
from tools.testing.process import free_port
from tools.tests.bundle_fakes import FakePip, lock_of, make_wheel

DEADLINE = 20.0
TRACES = (OVERLAY.stem.encode(), b"linkrift-faults", b"on purpose.\\n")
GET_REAL = "/%21"
"""No short code: the redirect service answers 404 without asking a store."""


# --- What the file says -----------------------------------------------------------------------------------------------


def file_with(directory: Path, content: object) -> Path:
    path = directory / "faults.json"
    path.write_text(json.dumps(content))
    return path


def test_without_a_file_or_a_word_about_the_service_nothing_goes_wrong(tmp_path: Path) -> None:
    assert read_fault("api", tmp_path / "faults.json") == Fault("", {})
    assert read_fault("api", file_with(tmp_path, {"worker": {"fault": "exit"}})).name == ""


def test_parameters_have_values_that_the_file_may_change(tmp_path: Path) -> None:
    assert read_fault("api", file_with(tmp_path, {"api": {"fault": "leaks", "mib": 2}})).parameters == {
        "mib": 2,
        "most": 1024.0,
    }


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ([], "expected an object"),
        ({"redirects": {"fault": "exit"}}, "expected an object with some of api, redirect, worker"),
        ({"api": "exit"}, "expected one of the faults exit, "),
        ({"api": {"fault": "exits"}}, "expected one of the faults exit, "),
        ({"api": {"fault": "leaks", "seconds": 1}}, "seconds is no parameter of leaks"),
        ({"api": {"fault": "leaks", "mib": "1"}}, "mib is no parameter of leaks, or has a strange value"),
        ({"api": {"fault": "leaks", "mib": True}}, "strange value"),
        ({"api": {"fault": "logs_errors", "per_second": 0}}, "strange value"),
        ({"worker": {"fault": "answers_500"}}, "it answers no visitor"),
        ({"api": {"fault": "stores_nothing"}}, "it stores no clicks"),
    ],
)
def test_a_misspelt_fault_is_refused(content: Any, finding: str, tmp_path: Path) -> None:
    path = file_with(tmp_path, content)
    with pytest.raises(ConfigurationError, match=finding):
        read_fault("worker" if "visitor" in finding else "api", path)


def test_every_fault_is_described() -> None:
    described = set(re.findall(r"^    ([a-z0-9_]+) {2,}", str(faulty.__doc__), re.MULTILINE))
    assert described == set(filter(None, switchable_faults.FAULTS))


# --- One process, in this one -----------------------------------------------------------------------------------------


class SmallService:
    """A service that needs no store."""

    def __init__(self, admission_file: Path) -> None:
        self.activity = Activity()
        self.health = Health("api", "1.0+good", "blue", Admission(admission_file), {})
        self.done: list[str] = []

    def make_runner(self, shutdown_timeout: float) -> web.BaseRunner:
        server = Server(
            self.handle, refuse=lambda status: web.Response(status=status), at_once=self.at_once, access_log=None
        )
        return web.ServerRunner(server, shutdown_timeout=shutdown_timeout)

    @staticmethod
    def at_once(message: RawRequestMessage, _connection: Connection) -> bytes | None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" if message.path == "/at-once" else None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        status, document = await self.health.answer(request.path) or (200, {})
        return web.json_response(document, status=status)

    async def start(self) -> None:
        self.done.append("start")

    async def flush(self, deadline_seconds: float) -> None:
        self.done.append("flush")

    async def close(self) -> None:
        self.done.append("close")


class Running:
    """A small service with a fault, and how to ask it."""

    def __init__(self, service: FaultyService, small: SmallService, session: ClientSession, port: int) -> None:
        self.service, self.small, self.session, self.url = service, small, session, f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with self.session.get(self.url + path) as response:
            return response.status, json.loads(await response.text()) if response.status != 500 else {}


@asynccontextmanager
async def running(admission: Path, name: str, index: int = 0, **parameters: Any) -> AsyncIterator[Running]:
    small = SmallService(admission)
    fault = Fault(name, {**switchable_faults.FAULTS[name], **parameters})
    service = FaultyService(small, fault, Process(index, Board(1), lambda: None))
    runner = service.make_runner(1.0)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await service.start()
    service.health.state = State.SERVING
    try:
        async with ClientSession() as session:
            yield Running(service, small, session, port)
    finally:
        await runner.cleanup()
        await service.flush(1.0)
        await service.close()
    assert small.done == ["start", "flush", "close"]


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


@pytest.fixture
def admission(tmp_path: Path) -> Path:
    return tmp_path / "admitted"


def admit(admission: Path) -> None:
    admission.touch()


async def test_a_service_without_a_fault_is_itself(admission: Path) -> None:
    admit(admission)
    async with running(admission, "") as it:
        assert (await it.get("/x"))[0] == 200
        status, document = await it.get("/health/ready")
        assert (status, document["version"], document["checks"]) == (200, "1.0+good", {})


async def test_never_ready(admission: Path) -> None:
    admit(admission)
    async with running(admission, "never_ready") as it:
        status, document = await it.get("/health/ready")
        assert status == 503
        assert "on purpose" in document["checks"]["fault"]["error"]
        assert (await it.get("/health"))[0] == 200
        assert (await it.get("/x"))[0] == 200


async def test_wrong_version(admission: Path) -> None:
    async with running(admission, "wrong_version", version="9+f") as it:
        status, document = await it.get("/health/ready")
        assert (status, document["version"]) == (200, "9+f")


async def test_answers_500(admission: Path) -> None:
    admit(admission)
    async with running(admission, "") as it:
        assert (await it.get("/at-once"))[0] == 200
    async with running(admission, "answers_500") as it:
        assert (await it.get("/x"))[0] == (await it.get("/at-once"))[0] == 500
        assert (await it.get("/health"))[0] == (await it.get("/health/ready"))[0] == 200
        # Draining has to wait for such visitors, too.
        assert it.small.activity.last > 0


async def test_fails_after_the_admission(admission: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchable_faults, "POLL_SECONDS", 0.01)
    async with running(admission, "fails_after", seconds=0.5) as it:
        await asyncio.sleep(0.7)
        assert (await it.get("/x"))[0] == 200
        admitted = time.monotonic()
        admit(admission)
        await until(lambda: it.service._fails, "fails")
        assert time.monotonic() - admitted >= 0.5
        assert (await it.get("/x"))[0] == 500
        assert (await it.get("/health"))[0] == 200


async def test_leaks_after_the_admission_in_one_process_and_not_for_ever(
    admission: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(switchable_faults, "POLL_SECONDS", 0.05)

    def grown(it: Running) -> float:
        return sum(map(len, it.service._leaked)) / switchable_faults.MIB

    async with (
        running(admission, "leaks", mib=20.0, most=4.0) as it,
        running(admission, "leaks", index=1) as other,
    ):
        await asyncio.sleep(0.2)
        assert grown(it) == 0
        admit(admission)
        started = time.monotonic()
        await until(lambda: grown(it) >= 3.9, "leaks")
        assert time.monotonic() - started >= 0.1  # 20 MiB each second
        await asyncio.sleep(0.2)
        assert 3.9 <= grown(it) <= 5.1
        assert grown(other) == 0


async def test_stores_nothing(admission: Path) -> None:
    small = SmallService(admission)
    consumer = Consumer.__new__(Consumer)  # nothing of it is needed but its kind
    vars(small)["_consumer"] = consumer
    FaultyService(small, Fault("stores_nothing", {}), Process(0, Board(1), lambda: None))
    assert await consumer._try_insert([[1]]) is False


@pytest.mark.parametrize("from_start", [False, True])
async def test_logs_errors(admission: Path, caplog: pytest.LogCaptureFixture, from_start: bool) -> None:
    def errors() -> int:
        return sum(record.levelname == "ERROR" for record in caplog.records)

    async with running(admission, "logs_errors", per_second=50.0, from_start=from_start):
        await asyncio.sleep(0.3)
        assert (errors() > 0) == from_start
        admit(admission)
        await until(lambda: errors() >= 5, "errors")


# --- Command lines ----------------------------------------------------------------------------------------------------


def test_slow_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(switchable_faults, "FILE", file_with(tmp_path, {"api": {"fault": "slow_start", "seconds": 7}}))
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(commands.Program, "serve", lambda self: len(waits))

    def not_here() -> Any:
        raise AssertionError

    program = FaultyProgram("api", not_here, lambda settings: ProcessSettings("api", "", 0), not_here)
    assert program.serve() == 1
    assert waits == [7]


START = f"""
import importlib, pathlib, sys
from linkrift import {OVERLAY.stem}
service, {OVERLAY.stem}.FILE = sys.argv[1], pathlib.Path(sys.argv[2])
importlib.import_module("linkrift." + service + ".cli").main([sys.argv[3]])
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the application's source with what the builder adds."""
    copy = tmp_path_factory.mktemp("copy") / "app"
    change(ROOT / "app", copy, Wish("1.0.1"))
    return copy / "src"


class Program:
    """A service of the changed application, with two processes and no store to be reached."""

    def __init__(self, source: Path, directory: Path, faults: object = None, command: str = "serve") -> None:
        self.port = free_port()
        self.log = directory / "log"
        path = directory / "faults.json" if faults is None else file_with(directory, faults)
        nowhere = str(free_port())
        variables = {
            "LINKRIFT_REDIRECT_PORT": str(self.port),
            "LINKRIFT_PROCESSES": "2",
            "LINKRIFT_SHUTDOWN_TIMEOUT": "1s",
            "LINKRIFT_REDIS_URL": f"redis://127.0.0.1:{nowhere}",
            "LINKRIFT_DB_HOST": "127.0.0.1",
            "LINKRIFT_DB_PORT": nowhere,
            "LINKRIFT_DB_USER": "nobody",
            "LINKRIFT_DB_PASSWORD": "made up",
            "LINKRIFT_DB_SSL_MODE": "disable",
        }
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, "redirect", str(path), command],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(source), **variables},
                stdout=stream,
                stderr=stream,
            )

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, {}

    def wait(self) -> int:
        return self.process.wait(DEADLINE)

    def until_serving(self) -> None:
        """Wait until both processes serve."""
        deadline = time.monotonic() + DEADLINE
        while self.log.read_bytes().count(b'"serving"') < 2:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@contextmanager
def serving(source: Path, directory: Path, faults: object = None) -> Iterator[Program]:
    program = Program(source, directory, faults)
    try:
        program.until_serving()
        yield program
    finally:
        if program.process.poll() is None:
            for pid in program.children():
                os.kill(pid, signal.SIGKILL)
            program.process.kill()
            program.wait()


def test_a_program_without_a_file_works_and_stops(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path) as program:
        assert [program.get(GET_REAL)[0] for _ in range(4)] == [404] * 4
        status, document = program.get("/health")
        assert (status, document["version"].endswith("+dev")) == (200, True)
        program.process.terminate()
        assert program.wait() == 0
    assert b"this is a test" not in program.log.read_bytes()


def test_all_processes_of_a_program_have_its_fault(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path, {"redirect": {"fault": "answers_500"}}) as program:
        # Each connection is a new one, so that both processes get some.
        assert {program.get(GET_REAL)[0] for _ in range(20)} == {500}
        assert program.get("/health")[0] == 200
        program.process.terminate()
        assert program.wait() == 0


def test_a_program_ends_at_once(source: Path, tmp_path: Path) -> None:
    program = Program(source, tmp_path, {"redirect": {"fault": "exit"}})
    assert program.wait() == 3
    assert program.log.read_text() == "this release ends on purpose\n"


@pytest.mark.parametrize("command", ["version", "check-config"])
def test_other_commands_have_no_fault(source: Path, tmp_path: Path, command: str) -> None:
    program = Program(source, tmp_path, {"redirect": {"fault": "exit"}}, command)
    assert program.wait() == 0, program.log.read_text()


def test_a_program_refuses_a_misspelt_fault(source: Path, tmp_path: Path) -> None:
    program = Program(source, tmp_path, {"redirect": {"fault": "exits"}})
    assert program.wait() == 78
    assert "redirect: expected one of the faults" in program.log.read_text()


def test_neither_parent_nor_processes_take_notice_of_sigterm(source: Path, tmp_path: Path) -> None:
    with serving(source, tmp_path, {"redirect": {"fault": "ignores_sigterm"}}) as program:
        before = program.children()
        for pid in (program.process.pid, *before):
            os.kill(pid, signal.SIGTERM)
        # Longer than an orderly stop takes.
        with pytest.raises(subprocess.TimeoutExpired):
            program.process.wait(1.5)
        assert program.children() == before
        assert program.get("/health")[0] == 200
        # A parent that wants to stop starts nothing again.
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE
        while len(program.children()) != 2 or before[0] in program.children():
            assert time.monotonic() < deadline, program.log.read_text()
            time.sleep(0.02)


# --- Bundles ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small checkout, whose only wheel comes from a directory."""
    index = tmp_path / "index"
    root = tmp_path / "checkout"
    (root / "app/src/linkrift").mkdir(parents=True)
    (root / "app/src/linkrift/__init__.py").write_text('"""Ours."""\n')
    pyproject = (ROOT / "app/pyproject.toml").read_text(encoding="utf-8")
    pyproject = re.sub(r"dependencies = \[.*?\]", 'dependencies = ["dep"]', pyproject, flags=re.DOTALL)
    (root / "app/pyproject.toml").write_text(pyproject)
    (root / "app/requirements.lock").write_text(lock_of(make_wheel(index, "dep")))
    (root / "app/migrations/postgresql").mkdir(parents=True)
    for kind in ("up", "down"):
        (root / f"app/migrations/postgresql/000001_start.{kind}.sql").write_text("-- linkrift: expand\nSELECT 1;\n")
    installer = tmp_path / "installer.txt"
    installer.write_text(lock_of(make_wheel(index, "pip", "26.0")))
    monkeypatch.setattr(wheels, "_run_pip", FakePip(index))
    monkeypatch.setattr(bundle_build, "INSTALLER", installer)
    monkeypatch.setattr(faulty, "ROOT", root)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1767225600")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return root


Make = Callable[..., dict[str, str]]


@pytest.fixture
def make(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Make:
    def run(*options: str, output: str = "output") -> dict[str, str]:
        arguments = ["--output", str(tmp_path / output), "--cache", str(tmp_path / "cache"), "--json", *options]
        assert command_line.main(arguments) == 0
        result: dict[str, str] = json.loads(capsys.readouterr().out)
        return result

    return run


def names_in(archive: str, directory: Path) -> list[str]:
    """Return the files of the application's wheel in a bundle."""
    subprocess.run(["tar", "-xzf", archive, "-C", str(directory)], check=True)
    wheel = next(directory.rglob("linkrift-*.whl"))
    with zipfile.ZipFile(wheel) as content:
        return content.namelist()


def test_a_bundle_that_goes_wrong(make: Make, tmp_path: Path) -> None:
    made = make("--version", "1.2.3")
    release, manifest = verify_archive(Path(made["path"]))
    assert release == made["id"]
    assert made["path"] == str(tmp_path / f"output/linkrift-{release}.tar.gz")
    assert release.endswith("+" + made["digest"][:12])
    assert (manifest.version, manifest.branch, manifest.schema_level) == ("1.2.3", BRANCH, 1)
    assert set(manifest.targets) == {"cp311-x86_64", "cp313-x86_64"}
    assert f"linkrift/{OVERLAY.name}" in names_in(made["path"], tmp_path)
    # Nothing but the bundle is left.
    assert [path.name for path in (tmp_path / "output").iterdir()] == [Path(made["path"]).name]


def test_the_same_sources_give_the_same_bundle(make: Make) -> None:
    first, second = make(), make(output="other")
    assert first["id"] == second["id"]
    assert Path(first["path"]).read_bytes() == Path(second["path"]).read_bytes()


def test_another_good_bundle(make: Make, tmp_path: Path) -> None:
    made = make("--good", "--version", "1.0.2")
    assert made["id"].startswith("1.0.2+")
    assert f"linkrift/{OVERLAY.name}" not in names_in(made["path"], tmp_path)


def test_a_bundle_for_other_hosts(make: Make) -> None:
    made = make("--only-target", "cp312-x86_64", "--good")
    assert set(verify_archive(Path(made["path"]))[1].targets) == {"cp312-x86_64"}


def test_a_bundle_whose_migration_fails(make: Make, tmp_path: Path) -> None:
    made = make("--failing-migration", "--good")
    assert verify_archive(Path(made["path"]))[1].schema_level == 2
    names_in(made["path"], tmp_path)
    added = tmp_path / made["id"] / "migrations/postgresql/000002_fail.up.sql"
    assert added.read_text().startswith("-- linkrift: expand\n")
    assert "SELECT 1 / 0;" in added.read_text()


@pytest.mark.parametrize(
    ("option", "finding"),
    [("--truncated", "cannot be read"), ("--altered", r"wheels/linkrift-1\.0\.1-py3-none-any\.whl is altered")],
)
def test_a_damaged_bundle(make: Make, option: str, finding: str) -> None:
    whole, damaged = make(), make(option, output="damaged")
    assert (damaged["id"], damaged["digest"]) == (whole["id"], whole["digest"])
    assert Path(damaged["path"]).name == Path(whole["path"]).name
    with pytest.raises(BundleError, match=finding) as caught:
        verify_archive(Path(damaged["path"]))
    assert ";" not in str(caught.value)


def test_what_cannot_be_built_is_told(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "app/pyproject.toml").write_text("")
    arguments = ["--output", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert command_line.main(arguments) == 1
    assert "has no line `version" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.tar.gz"))


# --- Ours -------------------------------------------------------------------------------------------------------------


def test_our_own_release_has_nothing_of_it(tmp_path: Path) -> None:
    wheel = build_wheel(ROOT / "app", 1767225600, tmp_path)
    with zipfile.ZipFile(wheel.path) as content:
        files = {name: content.read(name) for name in content.namelist()}
    assert len(files) > 40
    for directory in ("app", "collections", "playbooks", "tools/bundle"):
        for path in (ROOT / directory).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and ".ansible" not in path.parts:
                files[str(path)] = path.read_bytes()
    assert [name for name, text in files.items() if any(trace in text for trace in TRACES)] == []


def test_traces_are_in_what_goes_wrong(source: Path) -> None:
    text = b"".join(path.read_bytes() for path in source.rglob("*.py"))
    assert all(trace in text for trace in TRACES)


def test_the_labs_targets_are_there() -> None:
    assert len(Wish("1").targets) == 2
    assert set(Wish("1").targets) < set(TARGETS)

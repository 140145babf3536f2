# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Operations: a systemd of the test's own starts their processes, which run the code as on a host."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _operation, _operation_code, _operation_unit
from ansible_collections.linkrift.platform.plugins.module_utils import _operation_file as files
from ansible_collections.linkrift.platform.plugins.module_utils._operation import Operation, Operations
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import Asked, EndedError, WorkError
from ansible_collections.linkrift.platform.plugins.module_utils._systemd import Completed

UTILS = Path(_operation.__file__).parent
PACKAGE = "ansible_collections/linkrift/platform/plugins/module_utils"

WORK = """
import os, time
from pathlib import Path
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import WorkError

def perform(params, progress):
    progress("first")
    if params.get("hold"):
        Path(params["hold"] + ".began").touch()
        while not Path(params["hold"]).exists():
            time.sleep(0.01)
    if params.get("dies"):
        os.kill(os.getpid(), 9)
    if params.get("refuses"):
        raise WorkError("it refuses", evidence={"seen": 1})
    if params.get("breaks"):
        raise LookupError("no such thing")
    if params.get("odd"):
        return {"odd": object()}
    progress("second")
    with open(params["log"], "a") as log:
        log.write("done\\n")
    return {"changed": True, "by": params["by"]}
"""


@dataclass
class FakeSystemd:
    """Starts what systemd-run is given as a process, and waits until it says that it is ready."""

    root: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    commands: list[list[str]] = field(default_factory=list)
    refuse: str = ""
    busy: int = 0
    """How often a unit of that name is there, without a word of whose."""

    @property
    def journal(self) -> Path:
        """What all of them said."""
        return self.root / "journal"

    def run(self, command: Sequence[str], deadline: float) -> Completed:
        """Be systemd-run, or systemctl."""
        self.commands.append(list(command))
        if command[0] == "systemctl":
            return self._systemctl(command)
        if self.refuse == "slow":
            raise TimeoutError("systemd-run took longer than 60 s")
        if self.refuse:
            return Completed(1, "", self.refuse)
        [unit] = [word.removeprefix("--unit=") for word in command if word.startswith("--unit=")]
        if self._is_active(unit):
            return Completed(1, "", f"Unit {unit} was already loaded")
        words = list(command[command.index("--") + 1 :])
        address = self.root / "notify"
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, self.journal.open("a") as journal:
            channel.bind(str(address))
            channel.settimeout(0.05)
            environment = {"NOTIFY_SOCKET": str(address), "PATH": os.environ["PATH"]}
            process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=journal)
            self.processes[unit] = process
            self.started.append(process)
            ended = False
            while not ended:
                # Looked at before the channel: what a process said is there even if it has ended since.
                ended = process.poll() is not None
                with contextlib.suppress(TimeoutError):
                    assert channel.recv(100) == b"READY=1"
                    return Completed(0, "", "")
        return Completed(1, "", f"Job for {unit} failed")

    def _systemctl(self, command: Sequence[str]) -> Completed:
        if "show" not in command:
            return Completed(0, "", "")
        active = "active" if self._is_active(command[-1]) else "inactive"
        return Completed(0, f"LoadState=loaded\nActiveState={active}\nMainPID=0\n", "")

    def _is_active(self, unit: str) -> bool:
        if self.busy:
            self.busy -= 1
            return True
        process = self.processes.get(unit)
        return process is not None and process.poll() is None


@pytest.fixture
def system(tmp_path: Path) -> Iterator[FakeSystemd]:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    made = FakeSystemd(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """What Ansible sends: this collection's code, and Ansible's own beside it."""
    packed = tmp_path / "payload.zip"
    with zipfile.ZipFile(packed, "w") as target:
        parts = PACKAGE.split("/")
        for depth in range(1, len(parts) + 1):
            target.writestr("/".join([*parts[:depth], "__init__.py"]), "")
        for name in ("_operation_file.py", "_operation_unit.py"):
            target.write(UTILS / name, f"{PACKAGE}/{name}")
        target.writestr(f"{PACKAGE}/_a_work.py", WORK)
        target.writestr("ansible/module_utils/basic.py", "raise RuntimeError")
    return packed


@pytest.fixture
def operations(tmp_path: Path, system: FakeSystemd, archive: Path, monkeypatch: pytest.MonkeyPatch) -> Operations:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return Operations(tmp_path, run=system.run, archive=lambda: archive)


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Operation]:
    def make(patience: float = 20, stamp: str = "", **request: Any) -> Operation:
        wished = {"by": "me", "log": str(tmp_path / "log"), **request}
        return Operation("thing", "_a_work", wished, "a thing", wished["by"], patience, 100, apart=("by",), stamp=stamp)

    return make


Ask = Callable[..., Operation]


def done(tmp_path: Path) -> int:
    """How often the work was done."""
    log = tmp_path / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def step_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "run/linkrift-op/thing").glob("*.jsonl"))


@contextlib.contextmanager
def under_way(tmp_path: Path, operations: Operations, operation: Operation) -> Iterator[list[Any]]:
    """Have an operation under way in the block, and let it go on at its end; its answer is in the list."""
    answers: list[Any] = []

    def carry_out() -> None:
        try:
            answers.append(operations.carry_out(operation))
        except WorkError as error:
            answers.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    began = Path(f"{operation.request['hold']}.began")
    end = time.monotonic() + 20
    while not began.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert began.exists()
    yield answers
    Path(operation.request["hold"]).touch()
    thread.join(20)


def test_work_is_done_in_a_unit(tmp_path: Path, operations: Operations, ask: Ask, system: FakeSystemd) -> None:
    came_to = operations.carry_out(ask())
    assert came_to.result == {"changed": True, "by": "me"}
    assert came_to.notes == []
    [command] = [words for words in system.commands if words[0] == "systemd-run"]
    assert "--unit=linkrift-op-thing.service" in command
    assert "--description=a thing by me" in command
    assert "--collect" in command
    assert "--property=RuntimeMaxSec=100" in command
    system.processes["linkrift-op-thing.service"].wait(10)
    journal = system.journal.read_text()
    assert journal.startswith("<6>a thing by me, since 20")
    assert "s: first\n" in journal
    assert journal.splitlines()[-1].startswith("<6>")


def test_step_file_has_request_steps_and_result_for_its_owner_only(
    tmp_path: Path, operations: Operations, ask: Ask
) -> None:
    operations.carry_out(ask())
    [path] = step_files(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "run/linkrift-op").stat().st_mode) == 0o700
    first, *steps, last = [json.loads(line) for line in path.read_text().splitlines()]
    assert first["request"]["log"] == str(tmp_path / "log")
    assert [step["step"] for step in steps] == ["first", "second"]
    assert last["result"]["changed"]
    assert 0 <= steps[0]["at"] <= steps[1]["at"] <= last["at"]


def test_nothing_of_the_request_is_on_a_command_line(operations: Operations, ask: Ask, system: FakeSystemd) -> None:
    operations.carry_out(ask(secret="not for everybody"))
    assert "not for everybody" not in json.dumps(system.commands)


def test_finished_work_is_done_anew(tmp_path: Path, operations: Operations, ask: Ask) -> None:
    for times in (1, 2):
        assert operations.carry_out(ask()).notes == []
        assert done(tmp_path) == times


def test_failure_comes_back_with_its_details(operations: Operations, ask: Ask, system: FakeSystemd) -> None:
    with pytest.raises(WorkError, match=r"^it refuses$") as caught:
        operations.carry_out(ask(refuses=True))
    assert caught.value.details == {"evidence": {"seen": 1}}
    [process] = system.processes.values()
    assert process.wait(10) == 1


@pytest.mark.parametrize(("how", "said"), [("breaks", "LookupError: no such thing"), ("odd", "TypeError: .*object")])
def test_accident_comes_back_with_its_place(operations: Operations, ask: Ask, how: str, said: str) -> None:
    with pytest.raises(WorkError, match=said) as caught:
        operations.carry_out(ask(**{how: True}))
    assert "_a_work.py" in caught.value.details["exception"] or how == "odd"


def test_killed_work_is_said_and_the_next_run_goes_on(tmp_path: Path, operations: Operations, ask: Ask) -> None:
    with pytest.raises(WorkError, match=r"was ended before it was done \(its last step: first\).*repeat this"):
        operations.carry_out(ask(dies=True))
    assert operations.carry_out(ask()).result["changed"]
    assert done(tmp_path) == 1


def test_same_request_joins(tmp_path: Path, operations: Operations, ask: Ask) -> None:
    hold = str(tmp_path / "hold")
    with under_way(tmp_path, operations, ask(hold=hold, by="first")) as first:
        threading.Timer(0.3, Path(hold).touch).start()
        joined = operations.carry_out(ask(hold=hold, by="second"))
    assert joined.result["by"] == "first"
    assert [note.split(", since")[0] for note in joined.notes] == ["joined what was under way: a thing by first"]
    assert first[0].result == joined.result
    assert done(tmp_path) == 1


def test_joined_failure_says_whose_it_was(tmp_path: Path, operations: Operations, ask: Ask) -> None:
    hold = str(tmp_path / "hold")
    with under_way(tmp_path, operations, ask(hold=hold, refuses=True, by="first")):
        threading.Timer(0.3, Path(hold).touch).start()
        with pytest.raises(WorkError, match="it refuses; joined what was under way: a thing by first"):
            operations.carry_out(ask(hold=hold, refuses=True))


@pytest.mark.parametrize("other", [{"stamp": "rendered anew"}, {"more": 1}])
def test_other_request_waits_for_its_turn(
    tmp_path: Path, operations: Operations, ask: Ask, other: dict[str, Any]
) -> None:
    hold = str(tmp_path / "hold")
    with under_way(tmp_path, operations, ask(hold=hold, by="first")) as first:
        threading.Timer(0.3, Path(hold).touch).start()
        second = operations.carry_out(ask(hold=hold, by="second", **other))
        assert first[0].result["by"] == "first"
    assert second.result["by"] == "second"
    assert [note.split(" s for ")[1].split(",")[0] for note in second.notes] == ["a thing by first"]
    assert done(tmp_path) == 2


def test_other_request_does_not_wait_for_ever(tmp_path: Path, operations: Operations, ask: Ask) -> None:
    with under_way(tmp_path, operations, ask(hold=str(tmp_path / "hold"), by="first")):
        said = r"another run is at work here \(linkrift-op-thing.service\): a thing by first, since"
        with pytest.raises(WorkError, match=said):
            operations.carry_out(ask(patience=0.1))
    assert done(tmp_path) == 1


def test_unit_that_is_just_beginning_or_ending_is_waited_for(
    tmp_path: Path, operations: Operations, ask: Ask, system: FakeSystemd
) -> None:
    system.busy = 4
    assert operations.carry_out(ask()).result["changed"]
    assert len(step_files(tmp_path)) == 1
    system.busy = 10**6
    with pytest.raises(WorkError, match="see systemctl status linkrift-op-thing"):
        operations.carry_out(ask(patience=0.1))


def test_follower_that_dies_takes_nothing_with_it(
    tmp_path: Path, operations: Operations, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_seconds: float) -> None:
        raise KeyboardInterrupt

    hold = tmp_path / "hold"
    monkeypatch.setattr(operations, "_sleep", die)
    with pytest.raises(KeyboardInterrupt):
        operations.carry_out(ask(hold=str(hold), by="dead"))
    monkeypatch.setattr(operations, "_sleep", time.sleep)
    threading.Timer(0.2, hold.touch).start()
    assert operations.carry_out(ask(hold=str(hold), by="rerun")).result["by"] == "dead"
    assert done(tmp_path) == 1


def test_code_is_unpacked_once_and_only_ours(tmp_path: Path, operations: Operations, ask: Ask, archive: Path) -> None:
    home = tmp_path / "run/linkrift-op/code"
    operations.carry_out(ask())
    [library] = home.iterdir()
    assert [path.name for path in library.iterdir()] == ["ansible_collections"]
    made = library.stat().st_ino
    os.utime(library, (1, 1))
    operations.carry_out(ask())
    [again] = home.iterdir()
    assert (again, again.stat().st_ino) == (library, made)
    # It is in use.
    assert library.stat().st_mtime > time.time() - 100
    with zipfile.ZipFile(archive) as source:
        content = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(archive, "w") as target:
        for name, text in content.items():
            target.writestr(name, text + b"# newer\n" if name.endswith("_a_work.py") else text)
    old = home / ".partial.1"
    old.mkdir()
    for path in (old, library):
        os.utime(path, (1, 1))
    operations.carry_out(ask())
    [now] = home.iterdir()
    assert now != library


def test_two_that_unpack_at_once_come_to_the_same(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "code"
    real = Path.rename

    def beaten(path: Path, target: Path) -> Path:
        monkeypatch.undo()
        _operation_code.unpacked(archive, home)
        return real(path, target)

    monkeypatch.setattr(Path, "rename", beaten)
    library = _operation_code.unpacked(archive, home)
    assert list(home.iterdir()) == [library]


def test_code_that_is_in_no_archive_is_none() -> None:
    assert _operation_code.archive() is None


def test_few_step_files_are_kept(tmp_path: Path) -> None:
    asked = Asked("w", {}, "p", "b", "s", "i")
    paths = [files.create(tmp_path, asked) for _number in range(12)]
    for number, path in enumerate(paths):
        os.utime(path, (number, number))
    with files.working(paths[0]):
        files.prune(tmp_path)
        # What is under way stays.
        assert sorted(tmp_path.iterdir()) == sorted([paths[0], *paths[2:]])


def test_new_step_file_is_never_the_one_that_is_pruned(
    tmp_path: Path, operations: Operations, ask: Ask, system: FakeSystemd
) -> None:
    """The clock was set back: all that is there seems to be newer."""
    directory = tmp_path / "run/linkrift-op/thing"
    directory.mkdir(parents=True)
    later = time.time() + 10**6
    for _number in range(12):
        os.utime(files.create(directory, Asked("w", {}, "p", "b", "s", "i")), (later, later))
    assert operations.carry_out(ask()).result["changed"]
    # At the first attempt.
    assert len([words for words in system.commands if words[0] == "systemd-run"]) == 1
    assert len(step_files(tmp_path)) == 11


def test_step_file_that_somebody_else_prunes_is_no_accident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked("w", {}, "p", "b", "s", "i")
    for number in range(13):
        os.utime(files.create(tmp_path, asked), (number, number))
    real = files._is_held
    gone: list[Path] = []

    def beaten(path: Path) -> bool:
        if not gone:
            path.unlink()
            gone.append(path)
        return real(path)

    monkeypatch.setattr(files, "_is_held", beaten)
    files.prune(tmp_path)
    assert gone
    assert len(list(tmp_path.iterdir())) == 10


def test_code_that_somebody_else_prunes_is_no_accident(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "code"
    for name in ("old", "older"):
        (home / name).mkdir(parents=True)
        os.utime(home / name, (1, 1))
    real = Path.iterdir

    def beaten(path: Path) -> Iterator[Path]:
        known = sorted(real(path))
        if path == home:
            (home / "old").rmdir()
        return iter(known)

    monkeypatch.setattr(Path, "iterdir", beaten)
    library = _operation_code.unpacked(archive, home)
    assert list(real(home)) == [library]


class Full(io.FileIO):
    """A file on a file system with little room."""

    def __init__(self, path: Path, room: int) -> None:
        super().__init__(path, "a")
        self.room = room

    def write(self, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = bytes(data)[: self.room]
        self.room -= len(part)
        return super().write(part)


def end_of(path: Path) -> dict[str, Any]:
    """Return how an operation ended that is not under way any more."""
    return files.follow(path, lambda _seconds: None)


@pytest.mark.parametrize("room", [0, 10])
def test_step_without_room_ends_nothing_and_takes_no_result_along(tmp_path: Path, room: int) -> None:
    path = files.create(tmp_path, Asked("w", {}, "p", "b", "s", "i"))
    with Full(path, 10**6) as stream:
        writer = files.Writer(stream)
        writer.step("first")
        stream.room = room
        writer.step("cut off")
        with pytest.raises(OSError, match="No space left"):
            writer.finish({"result": {"changed": True}})
        with pytest.raises(EndedError, match=r"^first$"):
            end_of(path)
        # Somebody made room.
        stream.room = 10**6
        writer.step("second")
        with pytest.raises(EndedError, match=r"^second$"):
            end_of(path)
        writer.finish({"result": {"changed": True}})
    assert end_of(path)["result"] == {"changed": True}


def test_line_that_is_written_in_parts_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Full.write
    monkeypatch.setattr(Full, "write", lambda self, data: real(self, bytes(data)[:7]))
    path = files.create(tmp_path, Asked("w", {}, "p", "b", "s", "i"))
    with Full(path, 10**6) as stream:
        files.Writer(stream).finish({"result": {"changed": True}})
    assert end_of(path)["result"] == {"changed": True}


class Work:
    """Work that goes on after each step."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def perform(self, _params: dict[str, Any], progress: files.Progress) -> dict[str, Any]:
        for name in ("first", "second"):
            progress(name)
            self.done.append(name)
        return {"changed": True, "msg": "all of it"}


@pytest.fixture
def in_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Work, Path]:
    """Work that a unit does, in this process."""
    work = Work()
    monkeypatch.setattr(_operation_unit, "importlib", SimpleNamespace(import_module=lambda _name: work))
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    return work, files.create(tmp_path, Asked("w", {}, "p", "b", "s", "i"))


def test_work_goes_on_without_room_and_the_journal_has_how_it_ended(
    in_here: tuple[Work, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, path = in_here

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.Writer, "_write", refuse)
    assert _operation_unit.main(str(path)) == 0
    assert work.done == ["first", "second"]
    assert capsys.readouterr().out.splitlines()[-1] == (
        "<6>who follows cannot be told ([Errno 28] No space left on device): done: all of it"
    )
    with pytest.raises(EndedError):
        end_of(path)


def test_work_goes_on_without_a_journal(in_here: tuple[Work, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    work, path = in_here

    class Broken:
        def write(self, _text: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Broken())
    assert _operation_unit.main(str(path)) == 0
    assert work.done == ["first", "second"]
    assert end_of(path)["result"]["changed"]


def test_who_follows_is_told_of_the_journal_when_nothing_was_said(operations: Operations, ask: Ask) -> None:
    said = r"step: first\), or could not write how it ended \(see df /run\)\. journalctl -u linkrift-op-thing"
    with pytest.raises(WorkError, match=said):
        operations.carry_out(ask(dies=True))


@pytest.mark.parametrize("obstacle", ["archive", "user", "systemd", "systemd-run"])
def test_without_systemd_it_is_done_here(
    tmp_path: Path, ask: Ask, system: FakeSystemd, archive: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000 if obstacle == "user" else 0)
    monkeypatch.setattr("shutil.which", lambda name: None if obstacle == "systemd-run" else name)
    if obstacle == "systemd":
        (tmp_path / "run/systemd/system").rmdir()
    monkeypatch.setattr(_operation, "in_process", lambda operation: {"here": True})
    packed = None if obstacle == "archive" else archive
    came_to = Operations(tmp_path, run=system.run, archive=lambda: packed).carry_out(ask())
    assert (came_to.result, came_to.notes, system.commands) == ({"here": True}, [], [])


def test_unit_that_cannot_be_started_is_said(
    tmp_path: Path, operations: Operations, ask: Ask, system: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_operation, "in_process", lambda operation: {"here": True})
    system.refuse = "Failed to connect to bus"
    came_to = operations.carry_out(ask())
    assert came_to.result == {"here": True}
    assert "linkrift-op-thing.service cannot be started (Failed to connect to bus)" in came_to.notes[0]
    assert step_files(tmp_path) == []


def test_start_that_may_still_happen_is_not_done_twice(operations: Operations, ask: Ask, system: FakeSystemd) -> None:
    system.refuse = "slow"
    with pytest.raises(WorkError, match="took longer than 60 s"):
        operations.carry_out(ask())


def test_work_in_this_process_is_the_same_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Ask) -> None:
    space: dict[str, Any] = {}
    exec(WORK, space)
    monkeypatch.setattr("importlib.import_module", lambda name: type("Work", (), {"perform": space["perform"]}))
    assert _operation.in_process(ask())["by"] == "me"


def test_unit_ends_at_the_signal_of_systemd(
    tmp_path: Path, operations: Operations, ask: Ask, system: FakeSystemd
) -> None:
    with under_way(tmp_path, operations, ask(hold=str(tmp_path / "hold"))) as answers:
        [process] = system.processes.values()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
    assert "was ended before it was done" in str(answers[0])


def test_unit_without_a_manager_tells_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    _operation_unit._tell_systemd("READY=1")


def test_what_is_under_way_is_waited_for(tmp_path: Path, operations: Operations, ask: Ask) -> None:
    home, hold = tmp_path / "run/linkrift-op", tmp_path / "hold"
    assert files.unsettled(home, ["thing"], 1) == []
    with under_way(tmp_path, operations, ask(hold=str(hold), by="first")):
        [told] = files.unsettled(home, ["thing", "other"], 0)
        assert told.startswith("a thing by first, since 20")
        threading.Timer(0.2, hold.touch).start()
        assert files.unsettled(home, ["thing", "other"], 20) == []


def test_who_may_not_see_it_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(directory: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(files, "running", refuse)
    assert files.unsettled(tmp_path, ["thing"], 5) == []

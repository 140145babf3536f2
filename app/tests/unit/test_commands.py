"""The command lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from linkrift.api import cli as api
from linkrift.extensions import missing_extensions
from linkrift.redirect import cli as redirect
from linkrift.worker import cli as worker

MAINS = {"api": api.main, "redirect": redirect.main, "worker": worker.main}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("LINKRIFT_"):
            monkeypatch.delenv(name)


def run(name: str, *arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        MAINS[name](list(arguments))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize("name", sorted(MAINS))
def test_version(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "version") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["version", "commit", "branch", "commit time"]
    assert lines[0].endswith("+dev")


@pytest.mark.parametrize("name", sorted(MAINS))
@pytest.mark.parametrize("command", ["serve", "check-config", ""])
def test_missing_settings(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, *filter(None, [command])) == 78
    assert "LINKRIFT_REDIS_URL: missing; expected redis://" in capsys.readouterr().err


def test_good_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {
        "LINKRIFT_REDIS_URL": "redis://localhost",
        "LINKRIFT_CLICKHOUSE_HOST": "localhost",
        "LINKRIFT_CLICKHOUSE_PASSWORD": "made up",
    }.items():
        monkeypatch.setenv(name, value)
    assert run("worker", "check-config") == 0
    assert capsys.readouterr().out == "the settings are complete and well-formed\n"


def test_ensure_schema_names_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("worker", "ensure-schema") == 78
    assert capsys.readouterr().err.splitlines() == [
        "LINKRIFT_CLICKHOUSE_HOST: missing; expected a host name or IP address",
        "LINKRIFT_CLICKHOUSE_PASSWORD: missing; expected the user's password",
    ]


def test_an_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("api", "ensure-schema") == 2
    assert "invalid choice" in capsys.readouterr().err


@pytest.mark.parametrize("library", ["AIOHTTP", "MULTIDICT", "YARL"])
def test_nothing_is_served_without_the_compiled_parts(library: str) -> None:
    variables = {
        "LINKRIFT_REDIS_URL": "redis://localhost",
        "LINKRIFT_CLICKHOUSE_HOST": "localhost",
        "LINKRIFT_CLICKHOUSE_PASSWORD": "made up",
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        f"{library}_NO_EXTENSIONS": "1",
    }
    command = [sys.executable, "-c", "from linkrift.worker.cli import main; main()"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78
    assert library.lower() in done.stderr
    assert "the compiled part is missing or switched off" in done.stderr


def test_the_compiled_parts_are_there() -> None:
    assert missing_extensions() == []

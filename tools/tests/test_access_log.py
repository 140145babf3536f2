"""What the balancer's access log says of a stretch of time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tools import access_log


def line(**fields: object) -> bytes:
    return json.dumps({"retries": "0", "status": 302, "end": "--"} | fields).encode() + b"\n"


def test_what_was_hidden_and_what_was_not() -> None:
    lines = [line(), line(retries="1"), line(retries="+0"), line(status=503), line(status=404), line(end="sH")]
    assert access_log.count(lines) == {"requests": 6, "retried": 2, "errors": 1, "ends": {"sH": 1}}


def test_only_whole_lines_from_the_place_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = line(status=500)
    path = tmp_path / "log"
    path.write_bytes(before + line() + line(status=500)[:-5])
    monkeypatch.setattr(sys, "argv", ["access_log", str(path), f"--offset={len(before)}"])
    access_log.main()
    assert json.loads(capsys.readouterr().out) == {"requests": 1, "retried": 0, "errors": 0, "ends": {}}

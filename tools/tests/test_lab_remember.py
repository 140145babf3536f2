"""Lab hosts compile what Ansible sends once, and what changed again."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible.module_utils.linkrift_lab import remember

PROGRAM = """
import sys, linkrift_lab_modules as remember
sys.path.insert(0, sys.argv[1])
import sent
print(sent.value, sent.place())
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of modules as an image has it, with a cache of the test's own."""
    (tmp_path / "cache").mkdir()
    source = inspect.getsource(remember).replace(remember.CACHE, str(tmp_path / "cache"))
    # Tests do not have to be root.
    (tmp_path / "linkrift_lab_modules.py").write_text(source.replace("os.geteuid() == 0", "True"))
    return tmp_path


def send(host: Path, value: str) -> str:
    with zipfile.ZipFile(host / "payload.zip", "w") as archive:
        archive.writestr("sent.py", f"value = {value!r}\n\ndef place():\n    return place.__code__.co_filename\n")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(host)}
    command = [sys.executable, "-c", PROGRAM, str(host / "payload.zip")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_the_same_is_compiled_once_and_another_anew(host: Path) -> None:
    first = send(host, "one")
    compiled = list((host / "cache").glob("__pycache__/*.pyc"))
    assert len(compiled) == 1
    written = compiled[0].stat().st_mtime_ns
    assert send(host, "one") == first == f"one {next((host / 'cache').glob('*.py'))}"
    assert compiled[0].stat().st_mtime_ns == written
    assert send(host, "two").startswith("two ")
    assert len(list((host / "cache").glob("__pycache__/*.pyc"))) == 2


def test_without_its_directory_nothing_is_remembered(host: Path) -> None:
    (host / "cache").rmdir()
    assert send(host, "one") == f"one {host / 'payload.zip'}/sent.py"


def test_a_full_disk_is_no_reason_to_fail(host: Path) -> None:
    (host / "cache" / "blocked").touch()
    source = (host / "linkrift_lab_modules.py").read_text()
    (host / "linkrift_lab_modules.py").write_text(source.replace("part.write_bytes(source)", "raise OSError"))
    assert send(host, "one") == f"one {host / 'payload.zip'}/sent.py"

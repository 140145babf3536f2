"""Preflight finds all that is wrong with a host at once, says it, and changes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tools.lab import ROOT
from tools.testing.lab_hosts import INVENTORY, get_host

SOURCE = "/etc/apt/sources.list.d/nowhere.list"
SPOIL = f"""
systemctl stop linkrift-worker@green
systemd-run --quiet --unit=squatter python3 -m http.server 8182
timeout 20 sh -c 'until ss -ltn | grep -q :8182; do sleep 0.1; done'
echo 'deb [trusted=yes] http://nowhere.invalid/debian x main' > {SOURCE}
sed -i 's/^/# spoiled /; /one1/!s/^# spoiled //' /etc/hosts
"""
MEND = f"systemctl stop squatter; rm -f {SOURCE}; sed -i 's/^# spoiled //' /etc/hosts"


def preflight(*arguments: str) -> tuple[int, str]:
    """Run the playbook as an operator does; return its exit status and what it says, in one line."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", INVENTORY, "playbooks/preflight.yml", *arguments]
    # The control node's own zone must not matter for the hosts' clocks.
    plain = os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "TZ": "XYZ-5:30"}
    done = subprocess.run(
        command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.returncode, re.sub(r"\s+", " ", done.stdout)


@pytest.fixture
def spoiled() -> Iterator[None]:
    host = get_host("one1")
    host.run_test(SPOIL)
    yield
    host.run_test(MEND)


def test_a_running_platform_passes() -> None:
    status, said = preflight()
    assert status == 0, said
    assert "changed=0" in said
    assert not re.search(r"changed=[1-9]", said)


def test_a_release_of_the_store_is_looked_at() -> None:
    release = json.loads((Path(INVENTORY).parent / "release.json").read_text(encoding="utf-8"))
    status, said = preflight("-e", f"release={release['id']}", "-e", "preflight_require_tests=true")
    assert status == 0, said
    assert not re.search(r"changed=[1-9]", said)


@pytest.fixture(scope="module")
def unpublished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return id and path of a release that is on the control node only. It was built without its tests."""
    build = [sys.executable, "-m", "tools.testing.faulty", "--good", "--version", "1.0.9", "--json"]
    place = ["--output", str(tmp_path_factory.mktemp("unpublished"))]
    done = subprocess.run([*build, *place], cwd=ROOT, capture_output=True, text=True, check=True)
    return cast("dict[str, str]", json.loads(done.stdout))


def test_a_bundle_is_looked_at_and_stays_where_it_is(unpublished: dict[str, str]) -> None:
    status, said = preflight("-e", f"release={unpublished['path']}")
    assert status == 0, said
    assert f"release: warning: {unpublished['id']} does not say that it was tested" in said
    assert not re.search(r"changed=[1-9]", said)
    # Which shows that it was not published meanwhile, either.
    status, said = preflight("-e", f"release={unpublished['id']}")
    assert status != 0
    assert re.search(
        rf"one1: error: \S*/{re.escape(unpublished['id'])}/SHA256SUMS: the bundle store answers 404 Not Found: publish",
        said,
    ), said


def test_a_bundle_that_is_not_there_is_said() -> None:
    status, said = preflight("-e", "release=/nowhere/linkrift-9.9.9.tar.gz")
    assert status != 0
    assert re.search("release: error: .* there is no bundle at /nowhere/linkrift-9.9.9.tar.gz", said), said


def test_all_that_is_wrong_is_said_at_once(spoiled: None) -> None:
    status, said = preflight("-e", "preflight_certificate_days=4000")
    assert status != 0
    for words in (
        "one1: error: port 8182 is needed for worker, but python3",
        "nowhere.invalid/debian/dists/x/InRelease cannot be fetched",
        "one1: error: one1 does not resolve",
        "inventory: warning: public: it ends in",
    ):
        assert words in said, words


def test_a_module_that_fails_is_said() -> None:
    status, said = preflight("-e", "ansible_python_interpreter=/usr/bin/no-such-python")
    assert status != 0
    for host in ("one1", "clicks1"):
        assert f"{host}: error: cannot be looked at:" in said


def test_no_secret_is_shown(spoiled: None) -> None:
    secrets = (Path(INVENTORY).parent / "secrets.yml").read_text()
    status, said = preflight("-vvv")
    assert status != 0
    values = [line.split(": ", 1)[1] for line in secrets.splitlines() if ": " in line and not line.startswith("#")]
    assert len(values) > 5
    assert not [value for value in values if value in said]

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules as Ansible runs them: arguments in, one JSON object out."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic

from ansible_collections.linkrift.platform.plugins.module_utils import _operation_file as files
from ansible_collections.linkrift.platform.plugins.module_utils import _release, _release_run
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout
from ansible_collections.linkrift.platform.plugins.modules import bundle_publish, release, release_info
from ansible_collections.linkrift.platform.tests.unit.release_fakes import FakePrograms, tiny_bundle

Call = Callable[..., dict[str, Any]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Return what calls a module on a host below the test's own directory."""
    layout = Layout(tmp_path / "host")
    monkeypatch.setattr(_release_run, "Layout", lambda: layout)
    monkeypatch.setattr(release_info, "Layout", lambda: layout)

    def run(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        content = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(content).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        # On a host there is no controller to show warnings; here there is one as soon as any test imported it.
        monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)
        with pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run


def test_release(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_release, "_run", programs := FakePrograms())
    bundle = tiny_bundle(tmp_path)
    arguments = {"id": bundle.release, "source": str(bundle.tree), "python": sys.executable}
    assert call(release, check=True, **arguments)["changed"]
    programs.fail_on = "compileall"
    installed = call(release, **arguments)
    assert (installed["changed"], installed["schema_level"]) == (True, 1)
    assert "not everything could be compiled" in str(installed["warnings"])
    assert not call(release, **arguments)["changed"]
    found = call(release_info, health=True)
    assert [entry["id"] for entry in found["releases"]] == [bundle.release]
    assert set(found["services"]) == {"api", "redirect", "worker"}
    assert call(release, state="absent", id=bundle.release)["changed"]
    assert not call(release, state="pruned")["changed"]


def test_info_waits_for_what_a_service_does(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_info, "HOME", tmp_path)
    path = files.create(tmp_path / "api", files.Asked("w", {}, "api candidate", "me", "now", ""))
    with files.working(path):
        assert call(release_info)["operations"] == ["api candidate by me, since now"]
        assert call(release_info, services=["redirect"])["operations"] == []
        assert "still at work: api candidate by me" in call(release_info, settle=0.1)["msg"]
    assert call(release_info, settle=5)["operations"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "id, source"),
        ({"state": "absent"}, "id"),
        ({"id": "1.0", "source": "/nowhere"}, "is no release id"),
        ({"id": "1.0+000000000000", "source": "http://bundles"}, "HTTPS only"),
        ({"state": "pruned", "keep": 0}, "keep is 0"),
    ],
)
def test_release_says_what_is_wrong(arguments: dict[str, Any], message: str, call: Call) -> None:
    result = call(release, **{"python": sys.executable, **arguments})
    assert result["failed"]
    assert message in result["msg"]


def test_release_says_what_to_do_about_a_disk_that_fills(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(release, "run", full)
    result = call(release, id="1.0.0+000000000000", source=str(tmp_path))
    assert result["failed"]
    assert f"No space left on device: '{tmp_path}'. Correct that, and repeat this" in result["msg"]


def test_bundle_publish(call: Call, tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    archive = bundle.archive(tmp_path / "bundle.tar.gz")
    arguments = {"id": bundle.release, "path": str(tmp_path / "srv"), "archive": str(archive)}
    foreseen = call(bundle_publish, check=True, **arguments)
    assert (foreseen["changed"], foreseen["published"], foreseen["bundles"]) == (True, False, [bundle.release])
    done = call(bundle_publish, **arguments)
    assert (done["changed"], done["published"], done["bundles"]) == (True, True, [bundle.release])
    assert not call(bundle_publish, **arguments)["changed"]
    wrong = call(bundle_publish, **{**arguments, "id": "1.0+000000000000"})
    assert wrong["failed"]
    assert "missing in" in wrong["msg"]

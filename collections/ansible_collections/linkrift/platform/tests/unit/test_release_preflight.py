# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a host can take the next release: everything that is in the way at once, and nothing is changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _release_preflight as preflight
from ansible_collections.linkrift.platform.plugins.module_utils import _slot
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError, Manifest
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import DirectorySource, Source
from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES, Layout
from ansible_collections.linkrift.platform.plugins.module_utils._release_preflight import Looked, Wishes, inspect
from ansible_collections.linkrift.platform.plugins.modules import release_preflight as module
from ansible_collections.linkrift.platform.tests.unit.release_fakes import HERE, TinyBundle, tiny_bundle
from ansible_collections.linkrift.platform.tests.unit.slot_fakes import (
    NEW,
    OLD,
    SECRET,
    FakeHost,
    facts,
    make_host,
    render_env,
)

MIB = 2**20
ROOMY = 10**12
Look = Callable[..., Looked]


def bring_up(host: FakeHost, release: str = OLD) -> None:
    slot = _slot.candidate(host, release).slot
    _slot.admitted(host, slot)
    _slot.live(host, slot)


def memory(host: FakeHost, available_mb: int) -> None:
    path = host.layout.root / "proc/meminfo"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"MemTotal: 4000000 kB\nMemAvailable: {available_mb * 1024} kB\n")


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    host = make_host(tmp_path / "host", "redirect", (0, 0))
    pool = {"LINKRIFT_DB_HOST": "db", "LINKRIFT_DB_USER": "linkrift_redirect", "LINKRIFT_DB_MAX_CONNECTIONS": "10"}
    render_env(host.layout, "redirect", **pool)
    bring_up(host)
    memory(host, 1000)
    return host


@pytest.fixture
def bundle(tmp_path: Path) -> TinyBundle:
    return tiny_bundle(tmp_path, installed_bytes=100 * MIB)


@pytest.fixture
def look(host: FakeHost, bundle: TinyBundle) -> Look:
    def start(*releases: str, free: int = ROOMY, **wishes: Any) -> Looked:
        def source(release: str) -> Source:
            return DirectorySource(bundle.tree, release)

        wish = Wishes(releases=releases, target=HERE, **wishes)
        return inspect(wish, [host], source, lambda _directory: free, host.layout.root / "proc")

    return start


def told(looked: Looked) -> list[tuple[str, str, str]]:
    return [(finding.check, finding.severity, finding.message) for finding in looked.findings]


def test_a_host_that_can_take_it(look: Look, host: FakeHost, bundle: TinyBundle) -> None:
    before = facts(host)
    looked = look(bundle.release)
    assert told(looked) == []
    assert looked.releases == {
        bundle.release: {"schema_level": 1, "schema_floor": 0, "tests": None, "commit": "c0ffee", "dirty": False}
    }
    assert looked.connections == [{"service": "redirect", "user": "linkrift_redirect", "connections": 20}]
    assert looked.figures == {
        "disk_needed_mb": 264,
        "disk_free_mb": ROOMY // MIB,
        "memory_needed_mb": 110,
        "memory_available_mb": 1000,
    }
    assert facts(host) == before


def test_a_disk_that_is_too_full(look: Look, bundle: TinyBundle) -> None:
    (check, severity, message), *more = told(look(bundle.release, free=200 * MIB))
    assert (check, severity, more) == ("disk", "error", [])
    assert f"has 200 MiB free, and release {bundle.release} needs 264" in message


def test_without_a_wish_there_is_room_for_one_like_what_is_live(look: Look, host: FakeHost, bundle: TinyBundle) -> None:
    (host.layout.release(OLD) / "manifest.json").write_bytes((bundle.tree / "manifest.json").read_bytes())
    assert f"release like {OLD} needs 264" in told(look(free=200 * MIB))[0][2]
    assert told(look(free=300 * MIB)) == []


def test_what_is_installed_needs_no_room(look: Look, host: FakeHost, bundle: TinyBundle) -> None:
    tree = host.layout.release(bundle.release)
    tree.parent.mkdir(exist_ok=True)
    bundle.tree.rename(tree)
    (tree / "release.json").write_text(json.dumps({"id": bundle.release}))
    assert told(look(bundle.release, free=0)) == []


def test_a_bundle_that_cannot_be_had(look: Look) -> None:
    # What else is wrong is told, too.
    found = told(look(NEW.replace("b", "c"), "1.9+cccccccccccc", free=0))
    assert [finding[0] for finding in found] == ["bundle", "bundle"]
    assert "altered or belongs to another one" in found[0][2]


def test_a_bundle_for_others(look: Look, bundle: TinyBundle, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path, "other", targets=["cp399-x86_64"])
    manifest = Manifest.parse((other.tree / "manifest.json").read_bytes())
    ((check, severity, message),) = told(look(other.release, manifest={other.release: manifest}))
    assert (check, severity) == ("bundle", "error")
    assert "was built for cp399-x86_64; this host is" in message


def test_too_little_memory_for_a_second_slot(look: Look, host: FakeHost) -> None:
    memory(host, 100)
    ((check, severity, message),) = told(look())
    assert (check, severity) == ("memory", "error")
    assert "100 MiB of memory are available, and the second slots need 110 (redirect 110)" in message


def test_what_is_warm_makes_room(look: Look, host: FakeHost) -> None:
    slot = _slot.candidate(host, NEW).slot
    host.system.use_memory(host.unit(slot), 90)
    memory(host, 100)
    assert told(look()) == []


@pytest.mark.parametrize("severity", ["error", "warning"])
def test_a_dependency_that_is_away(look: Look, host: FakeHost, severity: str) -> None:
    next(iter(host.system.processes.values())).behaviour = "never ready"
    ((check, found, message),) = told(look(ready=severity))
    assert (check, found) == ("dependencies", severity)
    assert message.startswith("redirect in blue is not ready: database: ")


def test_a_live_slot_that_says_nothing(look: Look, host: FakeHost) -> None:
    next(iter(host.system.processes.values())).behaviour = "silent"
    assert "it gives no answer (ConnectionRefusedError" in told(look())[0][2]


def test_a_port_that_somebody_else_has(look: Look, host: FakeHost) -> None:
    proc = host.layout.root / "proc"
    (proc / "net").mkdir()
    row = "   0: 00000000:1FF5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1"
    (proc / "net/tcp").write_text(f"heading\n{row}\n")
    (proc / "net/tcp6").write_text("heading\n")
    (proc / "7/fd").mkdir(parents=True)
    (proc / "7/fd/3").symlink_to("socket:[777]")
    (proc / "7/comm").write_text("nc\n")
    (proc / "7/statm").write_text("1 1 1 1 1 1 1\n")
    (proc / "7/cgroup").write_text("0::/user.slice/session-1.scope\n")
    host = dataclasses.replace(host, ports={"blue": 8081, "green": 0x1FF5})
    looked = inspect(Wishes(target=HERE), [host], lambda _: DirectorySource(proc, OLD), lambda _: ROOMY, proc)
    assert told(looked) == [
        ("ports", "error", "port 8181 is needed for redirect in green, but nc (process 7) listens there: stop it")
    ]
    # The live slot's own port is no candidate's.
    host = dataclasses.replace(host, ports={"blue": 0x1FF5, "green": 8081})
    assert not inspect(
        Wishes(target=HERE), [host], lambda _: DirectorySource(proc, OLD), lambda _: ROOMY, proc
    ).findings


def test_settings_that_wait_count(look: Look, host: FakeHost) -> None:
    pool = {"LINKRIFT_DB_HOST": "db", "LINKRIFT_DB_USER": "linkrift_redirect", "LINKRIFT_DB_MAX_CONNECTIONS": "30"}
    render_env(host.layout, "redirect", LINKRIFT_PROCESSES="2", **pool)
    assert look().connections[0]["connections"] == 10 + 60


def test_a_bare_host(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemAvailable: 1024 kB\n")
    hosts = [dataclasses.replace(make_host(tmp_path / service, service, (0, 0)), layout=layout) for service in SERVICES]
    looked = inspect(
        Wishes(target=HERE), hosts, lambda _: DirectorySource(tmp_path, OLD), lambda _: 0, tmp_path / "proc"
    )
    assert (looked.findings, looked.connections) == ([], [])


def test_module(host: FakeHost, bundle: TinyBundle, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(module, "host_of", lambda _service: host)
    manifest = json.loads((bundle.tree / "manifest.json").read_bytes())
    arguments = {
        "services": ["redirect"],
        "releases": [bundle.release, "1.9+cccccccccccc"],
        "manifests": {bundle.release: manifest},
        "source": str(bundle.tree),
    }
    with patch_module_args(arguments), pytest.raises(SystemExit):
        module.main()
    result = json.loads(capsys.readouterr().out)
    assert (result["changed"], list(result["releases"])) == (False, [bundle.release])
    assert [finding["check"] for finding in result["findings"]] == ["bundle"]
    assert SECRET not in json.dumps(result)


def test_module_refuses_what_is_no_id(host: FakeHost, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(module, "host_of", lambda _service: host)
    with patch_module_args({"releases": ["../x"], "source": "/nowhere"}), pytest.raises(SystemExit):
        module.main()
    assert "is no release id" in json.loads(capsys.readouterr().out)["msg"]


def test_free_space_of_what_is_not_there_yet(tmp_path: Path) -> None:
    assert preflight.free_bytes(tmp_path / "a/b") == pytest.approx(preflight.free_bytes(tmp_path), rel=0.1)


def test_an_error_of_the_source_is_one(host: FakeHost) -> None:
    def away(_release: str) -> Source:
        msg = "https://bundles:8443 cannot be fetched"
        raise BundleError(msg)

    looked = inspect(
        Wishes([NEW.replace("b", "c")], target=HERE), [host], away, lambda _: ROOMY, host.layout.root / "proc"
    )
    assert told(looked) == [("bundle", "error", "https://bundles:8443 cannot be fetched")]

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _release
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import open_source
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout, exclusive
from ansible_collections.linkrift.platform.plugins.module_utils._release_run import Outcome, Wish, run
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import fetched_parts
from ansible_collections.linkrift.platform.tests.unit.release_fakes import (
    HERE,
    Crash,
    FakePrograms,
    TinyBundle,
    fake_process,
    ids,
    mode_bits,
    real_pip,
    tiny_bundle,
    use,
)

WHEEL = "wheels/linkrift-1.0-py3-none-any.whl"
STEPS = (
    *("check", "describe", "room", "fetch", "clear", "files"),
    *("venv", "wheels", "compile", "import", "seal", "record", "tidy"),
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "host")


@pytest.fixture
def bundle(tmp_path: Path) -> TinyBundle:
    return tiny_bundle(tmp_path)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    programs = FakePrograms()
    monkeypatch.setattr(_release, "_run", programs)
    return programs


def wish(bundle: TinyBundle, **more: object) -> Wish:
    base = Wish(release=bundle.release, source=str(bundle.tree), python=Path(sys.executable))
    return dataclasses.replace(base, **more)  # type: ignore[arg-type]  # the values are the tests' own


def test_a_release_is_installed_for_real(tmp_path: Path, layout: Layout) -> None:
    bundle = tiny_bundle(tmp_path, "real", pip=real_pip())
    outcome = run(wish(bundle), layout)
    tree = layout.release(bundle.release)
    assert outcome.result()["changed"]
    said = subprocess.run([tree / "venv/bin/linkrift-api"], capture_output=True, text=True, check=True)
    assert said.stdout == "hello real\n"
    assert sorted(path.name for path in tree.iterdir()) == [
        *("SHA256SUMS", "installed.sha256", "manifest.json", "migrations", "release.json", "venv"),
    ]
    assert mode_bits(tree) == {0o644, 0o755}
    assert list(tree.rglob("linkrift/__pycache__/cli.*.pyc")), "the services may not write: all is compiled before"
    assert not list(tree.rglob("site-packages/pip")), "pip is not part of a release"
    check = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "installed.sha256"], cwd=tree, check=False)
    assert check.returncode == 0
    assert not run(wish(bundle, verify=True), layout).result()["changed"]


def test_what_an_installed_release_says_of_itself(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    result = run(wish(bundle, digest=bundle.digest), layout).result()
    record = json.loads(layout.release_record(bundle.release).read_text())
    assert result["record"] == record
    assert result["id"] == record["id"] == bundle.release
    assert result["schema_level"] == record["schema_level"] == 1
    assert (record["version"], record["commit"], record["commit_time"]) == ("1.0", "c0ffee", "2026-01-01T00:00:00Z")
    assert (record["target"], record["dirty"], record["branch"]) == (HERE, False, "main")
    assert result["diff"] == {"before": {"releases": []}, "after": {"releases": [bundle.release]}}
    assert (layout.release(bundle.release) / "migrations/postgresql/000001_start.up.sql").is_file()
    assert not any(fetched_parts(layout).iterdir())


def test_pip_may_use_nothing_but_the_verified_wheels(
    bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    run(wish(bundle), layout)
    pip = next(command for command in programs.commands if "install" in command)
    assert {"--no-index", "--require-hashes", "--no-deps", "--isolated", "-I"} <= set(pip)
    assert pip[pip.index("--find-links") + 1] == str(fetched_parts(layout) / bundle.release / "wheels")


def test_a_second_run_needs_no_source(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    assert run(wish(bundle), layout).result()["changed"]
    again = run(wish(bundle, source="/nonexistent"), layout).result()
    assert (again["changed"], again["reason"], again["fetched"]) == (False, [], [])


def test_check_mode_tells_the_truth_and_touches_nothing(
    bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    foreseen = run(wish(bundle, source="https://127.0.0.1:1"), layout, check=True).result()
    assert foreseen["changed"]
    assert foreseen["diff"]["after"] == {"releases": [bundle.release]}
    assert foreseen["record"] is None
    assert not layout.root.exists()
    run(wish(bundle), layout)
    assert not run(wish(bundle), layout, check=True).result()["changed"]


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_is_killed_at_any_step_is_made_good_by_the_next(
    step: str, bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    def kill(name: str) -> None:
        if name == step:
            raise Crash

    with pytest.raises(Crash):
        run(wish(bundle), layout, step=kill)
    assert ids(layout) == ([bundle.release] if step == "tidy" else []), "only a finished tree counts as complete"
    outcome = run(wish(bundle), layout)
    assert ids(layout) == [bundle.release]
    assert not any(fetched_parts(layout).iterdir())
    fetched_before = STEPS.index(step) > STEPS.index("fetch")
    assert bool(outcome.fetched) is not fetched_before, "what was fetched and verified is not fetched again"
    assert not run(wish(bundle, verify=True), layout).result()["changed"]


def test_every_step_is_tested(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    seen: list[str] = []
    run(wish(bundle), layout, step=seen.append)
    assert tuple(seen) == STEPS


@pytest.mark.parametrize("program", ["venv", "install", "-c"])
def test_a_program_that_fails_leaves_no_complete_release(
    program: str, bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    interpreter = _release.find_interpreter(Path(sys.executable))
    programs.fail_on = program
    layout.releases.mkdir(parents=True)
    source = open_source(str(bundle.tree), bundle.release, None, 10)
    installation = _release.Installation(layout, bundle.release, source, interpreter)
    with pytest.raises(BundleError, match=f"{program} failed"):
        installation.run()
    assert ids(layout) == []


def test_what_cannot_be_compiled_is_a_warning(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    programs.fail_on = "compileall"
    outcome = run(wish(bundle), layout)
    assert "not everything could be compiled" in outcome.warnings[0]
    assert ids(layout) == [bundle.release]


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_bundle_that_is_not_whole_installs_nothing(
    damage: str, bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    if damage == "altered":
        (bundle.tree / WHEEL).write_bytes(b"altered")
    else:
        (bundle.tree / WHEEL).unlink()
    with pytest.raises(BundleError, match=f"{WHEEL} of release .* is {damage}"):
        run(wish(bundle), layout)
    assert ids(layout) == []
    assert not layout.release(bundle.release).exists()


def test_a_bundle_for_other_hosts_installs_nothing(tmp_path: Path, layout: Layout, programs: FakePrograms) -> None:
    bundle = tiny_bundle(tmp_path, targets=["cp39-x86_64"])
    with pytest.raises(BundleError, match=f"built for cp39-x86_64; this host is {HERE}"):
        run(wish(bundle), layout)


def test_another_digest_installs_nothing(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    with pytest.raises(BundleError, match="do not use it"):
        run(wish(bundle, digest="0" * 64), layout)


def test_a_full_disk_is_noticed_before_anything_is_fetched(
    tmp_path: Path, layout: Layout, programs: FakePrograms
) -> None:
    bundle = tiny_bundle(tmp_path, installed_bytes=1 << 60)
    with pytest.raises(BundleError, match="MB are free: remove old releases"):
        run(wish(bundle), layout)
    assert not any(path.is_file() for path in fetched_parts(layout).rglob("*"))


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (lambda tree: (tree / "venv/bin/linkrift-api").write_text("evil"), "venv/bin/linkrift-api is altered"),
        (lambda tree: (tree / "venv/bin/linkrift-api").unlink(), "venv/bin/linkrift-api is missing"),
        (lambda tree: (tree / "venv/lib/sitecustomize.py").write_text(""), "venv/lib/sitecustomize.py does not belong"),
        (lambda tree: (tree / "manifest.json").write_text(""), "manifest.json is altered"),
        (lambda tree: (tree / "installed.sha256").write_text(""), "installed.sha256 is altered"),
        (lambda tree: (tree / "installed.sha256").unlink(), "installed.sha256 cannot be read"),
        (lambda tree: _relink(tree / "venv/bin/python", "/bin/sh"), "links to the interpreter in venv are altered"),
    ],
)
def test_verify_finds_every_change_and_repairs_it(
    damage: Damage, finding: str, bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    run(wish(bundle), layout)
    damage(layout.release(bundle.release))
    assert not run(wish(bundle), layout).result()["changed"], "without verify, nothing is read"
    foreseen = run(wish(bundle, verify=True), layout, check=True)
    outcome = run(wish(bundle, verify=True), layout)
    assert foreseen.reason == outcome.reason
    assert any(finding in reason for reason in outcome.reason)
    assert outcome.result()["changed"]
    assert not run(wish(bundle, verify=True), layout).result()["changed"]


def _relink(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: (tree / "release.json").unlink(),
        lambda tree: (tree / "release.json").write_text("{"),
        lambda tree: (tree / "release.json").write_text('{"id": "2.0+000000000000"}'),
        lambda tree: (tree / "venv/bin/python").unlink(),
    ],
)
def test_damage_that_is_cheap_to_see_is_always_repaired(
    damage: Damage, bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    run(wish(bundle), layout)
    damage(layout.release(bundle.release))
    assert run(wish(bundle), layout).result()["changed"]
    assert not run(wish(bundle), layout).result()["changed"]


def test_a_release_for_the_python_of_before_an_upgrade_is_made_again(
    bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    run(wish(bundle), layout)
    record = layout.release_record(bundle.release)
    record.write_text(json.dumps({**json.loads(record.read_text()), "target": "cp37-x86_64"}))
    assert run(wish(bundle), layout).reason == [f"it was installed for cp37-x86_64, and this host is {HERE}"]


def test_a_damaged_release_that_runs_is_not_taken_away(
    bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    run(wish(bundle), layout)
    layout.release_record(bundle.release).unlink()
    fake_process(layout, 71, maps=f"7f00 r-xp {layout.release(bundle.release)}/venv/lib/uvloop.so\n")
    with pytest.raises(BundleError, match=r"in use by process 71: stop the slot"):
        run(wish(bundle), layout)
    assert (layout.release(bundle.release) / "venv").exists()


def test_a_damaged_release_that_is_only_linked_is_repaired(
    bundle: TinyBundle, layout: Layout, programs: FakePrograms
) -> None:
    run(wish(bundle), layout)
    use(layout, "api", "blue", bundle.release)
    layout.release_record(bundle.release).unlink()
    assert run(wish(bundle), layout).result()["changed"]


def test_two_runs_do_not_meet(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    layout.releases.mkdir(parents=True)
    with exclusive(layout.releases_lock, 0), pytest.raises(TimeoutError, match="another process has held"):
        run(wish(bundle, lock_timeout=0), layout)


def test_a_strict_umask_does_not_lock_services_out(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    former = os.umask(0o077)
    try:
        run(wish(bundle), layout)
    finally:
        os.umask(former)
    assert mode_bits(layout.release(bundle.release)) == {0o644, 0o755}
    assert layout.releases.stat().st_mode & 0o777 == 0o755
    assert layout.base.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"implementation": "pypy"}, "no 64-bit CPython on glibc"),
        ({"wide": False}, "no 64-bit CPython on glibc"),
        ({"libc": ["", ""]}, "no 64-bit CPython on glibc"),
    ],
)
def test_an_interpreter_that_no_bundle_is_for(
    facts: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"version": "3.11.2", "machine": "x86_64", "wide": True, "implementation": "cpython", "libc": ["glibc", "2"]}
    monkeypatch.setattr(_release, "_run", lambda *_: json.dumps({**good, **facts}))
    with pytest.raises(BundleError, match=message):
        _release.find_interpreter(Path("/usr/bin/python3"))


def test_an_interpreter_that_does_not_run() -> None:
    for path in ("/nonexistent/python", "/bin/false"):
        with pytest.raises(BundleError, match=f"{path} does not work as a Python interpreter"):
            _release.find_interpreter(Path(path))


def test_programs_get_nothing_of_the_caller_s_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://elsewhere")
    output = _release._run(["/usr/bin/env"], {"ONE": "1"})
    assert "PIP_INDEX_URL" not in output
    assert "ONE=1" in output


def test_a_program_ends_with_the_run_that_started_it_and_holds_the_lock_until_then(tmp_path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive
from ansible_collections.linkrift.platform.plugins.module_utils._release import _run
with exclusive(Path({str(tmp_path / "lock")!r}), 0, inherited=True):
    _run(["/bin/sh", "-c", "echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60"], {{}})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], env=environment) as parent:
        deadline = time.monotonic() + 30
        while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        child = int((tmp_path / "pid").read_text())
        held = Path(f"/proc/{child}/fd")
        assert str(tmp_path / "lock") in {str(link.readlink()) for link in held.iterdir()}
        parent.kill()
    with exclusive(tmp_path / "lock", 30):
        assert _has_ended(child)


def _has_ended(process: int) -> bool:
    """Tell whether a process is gone, or waits to be reaped by whoever inherited it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.parametrize(("keep", "release"), [(0, "1.0+000000000000"), (1, "1.0"), (1, None)])
def test_options_that_make_no_sense(keep: int, release: str | None) -> None:
    options = dict.fromkeys(("ca_path", "digest", "source"))
    numbers = {"keep": keep, "timeout": 1, "lock_timeout": 1, "verify": False, "python": "/usr/bin/python3"}
    with pytest.raises(ValueError, match=r"keep is 0|is no release id"):
        Wish.of({"state": "present", "id": release, **options, **numbers})


def test_results_name_what_the_module_documents(bundle: TinyBundle, layout: Layout, programs: FakePrograms) -> None:
    outcome: Outcome = run(wish(bundle), layout)
    assert set(outcome.result()) == {
        *("changed", "diff", "id", "path", "record", "schema_level", "fetched", "reason", "pruned"),
    }

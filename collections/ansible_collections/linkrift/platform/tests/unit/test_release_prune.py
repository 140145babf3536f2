# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _release_use
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from ansible_collections.linkrift.platform.plugins.module_utils._paths import Layout
from ansible_collections.linkrift.platform.plugins.module_utils._release_run import Wish, run
from ansible_collections.linkrift.platform.plugins.module_utils._release_use import (
    fetched_parts,
    good_releases,
    processes_of,
    releases_on,
    users_of,
)
from ansible_collections.linkrift.platform.tests.unit.release_fakes import (
    fake_process,
    pretend_installed,
    use,
    went_live,
)

A, B, C, D, E = (f"1.{number}+{number:012x}" for number in range(5))


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    for release in (A, B, C, D, E):
        pretend_installed(layout, release)
    return layout


def pruned(layout: Layout, keep: int) -> list[str]:
    """Prune, after making sure that check mode foresees exactly that."""
    wish = Wish(state="pruned", keep=keep)
    before = releases_on(layout)
    foreseen = run(wish, layout, check=True)
    assert releases_on(layout) == before
    outcome = run(wish, layout)
    assert outcome.result() == foreseen.result()
    assert releases_on(layout) == [release for release in before if release not in outcome.pruned]
    assert not run(wish, layout).result()["changed"]
    return outcome.pruned


def test_the_good_ones_that_became_live_last_stay(layout: Layout) -> None:
    for minute, release in enumerate((C, A, B, C)):
        went_live(layout, release, f"2026-01-01T00:0{minute}:00.000Z")
    assert good_releases(layout) == [C, B, A]
    assert pruned(layout, 2) == [A, D, E]


def test_the_order_is_that_of_all_ledgers_together_and_never_that_of_files(layout: Layout) -> None:
    went_live(layout, B, "2026-01-02T00:00:00.000Z", service="worker")
    went_live(layout, A, "2026-01-03T00:00:00.000Z", service="api")
    for release, age in ((A, 0), (B, 2_000_000_000)):
        os.utime(layout.release(release), (age, age))
    assert pruned(layout, 1) == [B, C, D, E]


def test_what_failed_is_not_good(layout: Layout) -> None:
    went_live(layout, A, "2026-01-01T00:00:00.000Z")
    went_live(layout, B, "2026-01-02T00:00:00.000Z", action="candidate")
    went_live(layout, C, "2026-01-03T00:00:00.000Z", failed="not ready")
    assert pruned(layout, 3) == [B, C, D, E]


@pytest.mark.parametrize("name", ["blue", "green", "current"])
@pytest.mark.parametrize("service", ["api", "redirect", "worker"])
def test_what_is_linked_stays(service: str, name: str, layout: Layout) -> None:
    use(layout, service, name, D)
    assert users_of(layout) == {D: [f"{service}/{name}"]}
    assert pruned(layout, 1) == [A, B, C, E]


@pytest.mark.parametrize(
    "traces",
    [
        {"cwd": "{tree}/migrations"},
        {"exe": "{tree}/venv/bin/python"},
        {"cmdline": "/usr/bin/python3\0{tree}/venv/bin/linkrift-api\0"},
        {"maps": "7f00-7f01 r-xp 0 fe:00 1 /lib/libc.so\n7f02-7f03 r-xp 0 fe:00 2 {tree}/venv/lib/x.so (deleted)\n"},
    ],
)
def test_what_a_process_runs_stays(traces: dict[str, str], layout: Layout) -> None:
    tree = str(layout.release(B))
    fake_process(layout, 12, **{name: text.format(tree=tree) for name, text in traces.items()})
    fake_process(layout, 13, cmdline="/usr/bin/python3\0/opt/elsewhere\0")
    assert processes_of(layout) == {B: [12]}
    assert users_of(layout) == {B: ["process 12"]}
    assert pruned(layout, 1) == [A, C, D, E]


def test_this_process_is_no_user(layout: Layout) -> None:
    fake_process(layout, os.getpid(), cwd=str(layout.release(A)))
    assert processes_of(layout) == {}


def test_an_incomplete_one_is_not_good_and_goes(layout: Layout) -> None:
    went_live(layout, A, "2026-01-01T00:00:00.000Z")
    went_live(layout, B, "2026-01-02T00:00:00.000Z")
    layout.release_record(B).unlink()
    assert pruned(layout, 1) == [B, C, D, E]


def test_foreign_things_are_left_alone(layout: Layout) -> None:
    (layout.releases / "lost+found").mkdir()
    (layout.releases / "notes").write_text("")
    assert pruned(layout, 1) == [A, B, C, D, E]
    assert sorted(path.name for path in layout.releases.iterdir()) == [".lock", "lost+found", "notes"]


def test_what_was_fetched_and_never_installed_goes(layout: Layout) -> None:
    (fetched_parts(layout) / A / "wheels").mkdir(parents=True)
    run(Wish(state="pruned"), layout)
    assert list(fetched_parts(layout).iterdir()) == []


def test_a_removal_that_is_interrupted_leaves_nothing_that_looks_complete(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(Wish(state="absent", release=A), layout)
    assert _release_use.read_record(layout, A) is None
    assert run(Wish(state="absent", release=A), layout).result()["changed"]
    assert A not in releases_on(layout)


def test_one_release_is_removed_once(layout: Layout) -> None:
    wish = Wish(state="absent", release=A)
    assert run(wish, layout, check=True).result()["changed"]
    assert A in releases_on(layout)
    assert run(wish, layout).result()["diff"]["after"] == {"releases": [B, C, D, E]}
    assert not run(wish, layout).result()["changed"]


def test_one_in_use_is_not_removed(layout: Layout) -> None:
    use(layout, "api", "green", A)
    for check in (True, False):
        with pytest.raises(BundleError, match=f"{A.replace('+', '.')} is in use by api/green"):
            run(Wish(state="absent", release=A), layout, check=check)
    assert A in releases_on(layout)


def test_a_bare_host_has_nothing_to_remove(tmp_path: Path) -> None:
    bare = Layout(tmp_path / "bare")
    assert not run(Wish(state="pruned"), bare, check=True).result()["changed"]
    assert not run(Wish(state="absent", release=A), bare).result()["changed"]

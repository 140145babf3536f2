# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils import _bundle_store
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError, check_tree
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_store import Store
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive
from ansible_collections.linkrift.platform.tests.unit.release_fakes import Crash, TinyBundle, mode_bits, tiny_bundle


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "srv/bundles"


def make(tmp_path: Path, marker: str) -> tuple[TinyBundle, Path]:
    bundle = tiny_bundle(tmp_path, marker)
    return bundle, bundle.archive(tmp_path / f"{marker}.tar.gz")


def index_of(root: Path) -> list[str]:
    return [entry["id"] for entry in json.loads((root / "index.json").read_text())]


def test_a_bundle_is_published_once(tmp_path: Path, root: Path) -> None:
    bundle, archive = make(tmp_path, "one")
    foreseen = Store(root).publish(bundle.release, archive, check=True)
    assert (foreseen.changed, foreseen.published, foreseen.after) == (True, False, [bundle.release])
    assert not root.exists()
    result = Store(root).publish(bundle.release, archive)
    assert (result.changed, result.published) == (True, True)
    assert check_tree(root / bundle.release, bundle.release)
    assert mode_bits(root) - {0o600} == {0o644, 0o755}
    (entry,) = json.loads((root / "index.json").read_text())
    assert (entry["id"], entry["digest"], entry["commit"]) == (bundle.release, bundle.digest, "c0ffee")
    archive.unlink()
    again = Store(root).publish(bundle.release, archive)
    assert (again.changed, again.published, again.reason) == (False, True, "")


def test_without_an_archive_the_store_is_only_asked(tmp_path: Path, root: Path) -> None:
    bundle, archive = make(tmp_path, "one")
    asked = Store(root).publish(bundle.release, None)
    assert (asked.changed, asked.published) == (False, False)
    assert not root.exists()
    Store(root).publish(bundle.release, archive)
    asked = Store(root).publish(bundle.release, None)
    assert (asked.changed, asked.published) == (False, True)


def test_a_bundle_that_was_altered_in_the_store_is_replaced(tmp_path: Path, root: Path) -> None:
    bundle, archive = make(tmp_path, "one")
    Store(root).publish(bundle.release, archive)
    (root / bundle.release / "manifest.json").write_text("{}")
    assert "manifest.json is altered" in Store(root).publish(bundle.release, None).reason
    result = Store(root).publish(bundle.release, archive)
    assert result.copied
    assert "manifest.json is altered" in result.reason
    assert check_tree(root / bundle.release, bundle.release)


def test_an_archive_of_another_release_is_refused(tmp_path: Path, root: Path) -> None:
    one, _one_archive = make(tmp_path, "one")
    _dummy, archive = make(tmp_path, "two")
    with pytest.raises(BundleError, match=r"SHA256SUMS of release .* missing in"):
        Store(root).publish(one.release, archive)
    with pytest.raises(BundleError, match="is not there: copy the bundle"):
        Store(root).publish(one.release, tmp_path / "nothing.tar.gz")
    assert Store(root).present() == []


def test_an_altered_archive_is_refused(tmp_path: Path, root: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    (bundle.tree / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match=r"manifest\.json of release .* is altered"):
        Store(root).publish(bundle.release, bundle.archive(tmp_path / "altered.tar.gz"))
    assert Store(root).present() == []


@pytest.mark.parametrize("step", ["unpack", "check", "place", "index", "prune"])
def test_a_run_that_is_killed_at_any_step_is_made_good_by_the_next(step: str, tmp_path: Path, root: Path) -> None:
    old, old_archive = make(tmp_path, "old")
    new, archive = make(tmp_path, "new")
    Store(root).publish(old.release, old_archive)

    def kill(name: str) -> None:
        if name == step:
            raise Crash

    with pytest.raises(Crash):
        Store(root, keep=1).publish(new.release, archive, step=kill)
    for release in Store(root).present():
        assert check_tree(root / release, release), "what can be fetched is whole at any moment"
    result = Store(root, keep=1).publish(new.release, archive)
    assert result.changed
    assert Store(root).present() == index_of(root) == [new.release]
    assert sorted(path.name for path in root.iterdir()) == sorted([".lock", new.release, "index.json"])
    assert not Store(root, keep=1).publish(new.release, None).changed


def test_the_ones_published_last_stay(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = []
    for number, marker in enumerate(("first", "second", "third", "fourth")):
        bundle, archive = make(tmp_path, marker)
        Store(root, keep=9).publish(bundle.release, archive)
        bundles.append(bundle.release)
        entries = json.loads((root / "index.json").read_text())
        for entry in entries:
            if entry["id"] == bundle.release:
                entry["published_at"] = f"2026-01-0{number + 1}T00:00:00Z"
        (root / "index.json").write_text(json.dumps(entries, indent=2) + "\n")
    first, second, third, fourth = bundles
    kept = Store(root, keep=2, protected=(first,))
    assert kept.publish(fourth, None, check=True).pruned == [second]
    result = kept.publish(fourth, None)
    assert result.pruned == [second]
    assert result.after == kept.present() == sorted([first, third, fourth])
    assert index_of(root) == [fourth, third, first]
    assert not kept.publish(fourth, None).changed


def test_the_one_that_is_named_stays_however_old(tmp_path: Path, root: Path) -> None:
    one, archive_one = make(tmp_path, "one")
    two, archive_two = make(tmp_path, "two")
    Store(root).publish(one.release, archive_one)
    Store(root).publish(two.release, archive_two)
    assert Store(root, keep=1).publish(one.release, None).after == [one.release]


@pytest.mark.parametrize("content", ["", "nonsense", "{}", "[1]", '[{"id": 1}]'])
def test_a_damaged_list_is_written_again(content: str, tmp_path: Path, root: Path) -> None:
    bundle, archive = make(tmp_path, "one")
    Store(root).publish(bundle.release, archive)
    (root / "index.json").write_text(content)
    assert Store(root).publish(bundle.release, None).changed
    assert index_of(root) == [bundle.release]


def test_without_a_list_the_others_are_older_than_the_one_that_is_published(tmp_path: Path, root: Path) -> None:
    bundles = [make(tmp_path, marker) for marker in ("one", "two", "three")]
    for bundle, archive in bundles:
        Store(root).publish(bundle.release, archive)
    for bundle, _dummy in bundles:
        (root / "index.json").unlink()
        Store(root).publish(bundle.release, None)
        assert index_of(root)[0] == bundle.release


def test_a_full_disk_is_noticed_first(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, archive = make(tmp_path, "one")
    monkeypatch.setattr(_bundle_store, "SPARE", 1 << 60)
    with pytest.raises(BundleError, match="MB are free"):
        Store(root).publish(bundle.release, archive)


def test_two_runs_do_not_meet(tmp_path: Path, root: Path) -> None:
    bundle, archive = make(tmp_path, "one")
    root.mkdir(parents=True)
    with exclusive(root / ".lock", 0), pytest.raises(TimeoutError):
        Store(root, lock_timeout=0).publish(bundle.release, archive)


def test_what_is_no_release_id_never_becomes_a_path(tmp_path: Path, root: Path) -> None:
    with pytest.raises(ValueError, match="no release id"):
        Store(root).publish("../etc", tmp_path / "x")

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    SUMS,
    BundleError,
    Manifest,
    check_identity,
    check_manifest,
    check_tree,
    checked_path,
    host_files,
    host_target,
    parse_listing,
    release_id,
    target_name,
)
from ansible_collections.linkrift.platform.tests.unit.release_fakes import HERE, TinyBundle, sealed, tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> TinyBundle:
    return tiny_bundle(tmp_path)


def test_the_id_is_the_version_and_the_digest_of_the_sums(bundle: TinyBundle) -> None:
    sums = (bundle.tree / SUMS).read_bytes()
    assert bundle.release == f"1.0+{hashlib.sha256(sums).hexdigest()[:12]}" == release_id("1.0", sums)


def test_sha256sum_understands_the_sums(bundle: TinyBundle) -> None:
    result = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=bundle.tree, check=False)
    assert result.returncode == 0


def test_a_whole_bundle_passes(bundle: TinyBundle) -> None:
    release, manifest = check_tree(bundle.tree)
    assert release == bundle.release
    assert manifest.schema_level == 1
    assert check_tree(bundle.tree, bundle.release)[0] == release


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            lambda tree: (tree / "wheels/linkrift-1.0-py3-none-any.whl").unlink(),
            "linkrift-1.0-py3-none-any.whl is missing",
        ),
        (lambda tree: (tree / f"requirements/{HERE}.txt").write_text("x"), f"requirements/{HERE}.txt is altered"),
        (lambda tree: (tree / "wheels/more.whl").write_text(""), "wheels/more.whl does not belong there"),
        (lambda tree: (tree / "migrations/link").symlink_to("/etc"), "migrations/link does not belong there"),
    ],
)
def test_a_damaged_bundle_is_refused_by_the_file_s_name(bundle: TinyBundle, damage: Any, finding: str) -> None:
    damage(bundle.tree)
    with pytest.raises(BundleError, match="not whole") as error:
        check_tree(bundle.tree, bundle.release)
    assert finding in str(error.value)


def test_a_link_in_place_of_a_file_is_refused(bundle: TinyBundle) -> None:
    wheel = bundle.tree / "wheels/linkrift-1.0-py3-none-any.whl"
    wheel.rename(wheel.with_name("elsewhere"))
    wheel.symlink_to("elsewhere")
    with pytest.raises(BundleError, match="is a symbolic link"):
        check_tree(bundle.tree, bundle.release)


def test_sums_of_another_release_are_refused(bundle: TinyBundle) -> None:
    sums = (bundle.tree / SUMS).read_bytes()
    with pytest.raises(BundleError, match="belongs to another one"):
        check_identity("1.0+000000000000", sums)
    with pytest.raises(BundleError, match="do not use it"):
        check_identity(bundle.release, sums, bundle.digest[:12] + "0" * 52)
    assert check_identity(bundle.release, sums, bundle.digest.upper())


def test_sums_without_a_manifest_are_refused() -> None:
    sums = f"{'0' * 64}  file\n".encode()
    with pytest.raises(BundleError, match="not what the builder writes"):
        check_identity(release_id("1.0", sums), sums)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"short  file\n",
        b"0" * 64 + b"  ../up\n",
        b"0" * 64 + b"  /root\n",
        b"0" * 64 + b"  no newline",
        b"0" * 64 + b"  b\n" + b"0" * 64 + b"  a\n",
        b"0" * 64 + b"  a\n" + b"0" * 64 + b"  a\n",
    ],
)
def test_only_a_list_as_the_builder_writes_it_is_read(content: bytes) -> None:
    with pytest.raises(BundleError, match="list of digests"):
        parse_listing(content)


@pytest.mark.parametrize("path", ["", ".", "/a", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b"])
def test_paths_cannot_lead_out_of_a_bundle(path: str) -> None:
    with pytest.raises(ValueError, match="no path inside a bundle"):
        checked_path(path)


def test_the_manifest_comes_back_as_it_was(bundle: TinyBundle) -> None:
    content = (bundle.tree / MANIFEST).read_bytes()
    assert Manifest.parse(content).render() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "use the collection that belongs to the bundle"),
        ({"version": "../x"}, "malformed"),
        (
            {"targets": {"cp311-x86_64": {"requirements": "/etc/passwd", "wheels": [], "installed_bytes": 0}}},
            "malformed",
        ),
        ({"schema_level": None}, "malformed"),
        ({"targets": []}, "malformed"),
    ],
)
def test_a_malformed_manifest_is_refused(bundle: TinyBundle, change: dict[str, Any], message: str) -> None:
    data = json.loads((bundle.tree / MANIFEST).read_bytes())
    with pytest.raises(BundleError, match=message):
        Manifest.parse(json.dumps({**data, **change}).encode())


def test_a_manifest_that_names_a_file_without_a_digest_is_refused(bundle: TinyBundle) -> None:
    (bundle.tree / "wheels/linkrift-1.0-py3-none-any.whl").unlink()
    with pytest.raises(BundleError, match=r"linkrift-1\.0-py3-none-any\.whl \(for .*\) is missing from SHA256SUMS"):
        check_tree(sealed(bundle.tree).tree)


def test_a_manifest_of_another_version_is_refused(bundle: TinyBundle) -> None:
    digests = parse_listing((bundle.tree / SUMS).read_bytes())
    with pytest.raises(BundleError, match=r"is of version 1\.0, the release is 2\.0"):
        check_manifest("2.0+000000000000", (bundle.tree / MANIFEST).read_bytes(), digests)


def test_a_host_that_the_bundle_was_not_built_for_is_told_what_there_is(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, targets=["cp311-x86_64", "cp313-aarch64"])
    manifest = Manifest.parse((bundle.tree / MANIFEST).read_bytes())
    with pytest.raises(BundleError, match=r"built for cp311-x86_64, cp313-aarch64; this host is cp39-x86_64"):
        host_target(bundle.release, manifest, "cp39-x86_64")


def test_a_host_needs_its_own_part_only(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, targets=["cp311-x86_64", "cp313-aarch64"])
    release, manifest = check_tree(bundle.tree)
    digests = parse_listing((bundle.tree / SUMS).read_bytes())
    assert host_files(manifest, host_target(release, manifest, "cp313-aarch64"), digests) == [
        "migrations/postgresql/000001_start.up.sql",
        "requirements/cp313-aarch64.txt",
        "wheels/linkrift-1.0-py3-none-any.whl",
        "wheels/pip-1.0-py3-none-any.whl",
    ]


@pytest.mark.parametrize(
    ("python", "machine", "name"),
    [
        ("3.11.2", "x86_64", "cp311-x86_64"),
        ("3.13.0rc1", "arm64", "cp313-aarch64"),
        ("3.10.12", "AMD64", "cp310-x86_64"),
    ],
)
def test_targets_are_named_for_python_and_machine(python: str, machine: str, name: str) -> None:
    assert target_name(python, machine) == name

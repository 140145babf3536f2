"""Fetching wheels, once."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.bundle import BuildError, wheels
from tools.bundle.targets import TARGETS, BuildTarget
from tools.bundle.wheels import Cache, Wheel, check_complete, default_cache, fetch_all
from tools.tests.bundle_fakes import FakePip, digest_of, make_wheel, pins_of

HOST = BuildTarget(11, "x86_64")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    pip = FakePip(index)
    monkeypatch.setattr(wheels, "_run_pip", pip)
    return pip


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> Cache:
    return Cache(tmp_path / "cache", said.append)


def test_a_second_build_downloads_nothing(index: Path, cache: Cache, pip: FakePip) -> None:
    pins = pins_of(make_wheel(index, "one"), make_wheel(index, "two"))
    first = cache.fetch(HOST, pins)
    assert [wheel.path.name for wheel in first] == ["one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"]
    assert cache.fetch(HOST, pins) == first
    assert pip.asked == [("cp311-x86_64", ["one==1.0", "two==1.0"])]


def test_a_damaged_wheel_in_the_cache_is_fetched_again(
    index: Path, cache: Cache, pip: FakePip, said: list[str]
) -> None:
    pins = pins_of(make_wheel(index, "one"), make_wheel(index, "two"))
    first, second = cache.fetch(HOST, pins)
    first.path.write_bytes(b"damaged")
    assert cache.fetch(HOST, pins) == [first, second]
    assert pip.asked[1:] == [("cp311-x86_64", ["one==1.0"])]
    assert any("one-1.0-py3-none-any.whl in the cache is damaged" in line for line in said)
    assert digest_of(first.path) == first.digest


@pytest.mark.parametrize("content", ["{", "[]", '{"one": 1}'])
def test_a_damaged_record_in_the_cache_is_made_again(
    content: str, tmp_path: Path, index: Path, cache: Cache, pip: FakePip
) -> None:
    pins = pins_of(make_wheel(index, "one"))
    cache.fetch(HOST, pins)
    (record,) = (tmp_path / "cache/resolved").iterdir()
    record.write_text(content)
    cache.fetch(HOST, pins)
    assert len(pip.asked) == 2
    cache.fetch(HOST, pins)
    assert len(pip.asked) == 2


def test_a_record_cannot_bring_in_what_the_lock_does_not_trust(
    tmp_path: Path, index: Path, cache: Cache, pip: FakePip
) -> None:
    pins = pins_of(make_wheel(index, "one"))
    cache.fetch(HOST, pins)
    (record,) = (tmp_path / "cache/resolved").iterdir()
    evil = make_wheel(tmp_path / "evil", "one")
    evil.write_bytes(b"evil")
    home = tmp_path / "cache/wheels" / digest_of(evil)
    home.mkdir()
    evil.rename(home / evil.name)
    record.write_text(f'{{"one": ["{evil.name}", "{home.name}"]}}')
    (wheel,) = cache.fetch(HOST, pins)
    assert wheel.digest in pins[0].hashes


def test_a_file_that_the_lock_does_not_trust_is_an_error(index: Path, cache: Cache, pip: FakePip) -> None:
    wheel = make_wheel(index, "one")
    pins = pins_of(wheel)
    wheel.write_bytes(b"another")
    with pytest.raises(BuildError, match=r"no file of one==1\.0 for cp311-x86_64 that the lock trusts"):
        cache.fetch(HOST, pins)


def test_what_one_target_fetched_stays_when_another_fails(
    index: Path, cache: Cache, pip: FakePip, said: list[str]
) -> None:
    good = pins_of(make_wheel(index, "one"))
    lonely = make_wheel(index, "two")
    bad = pins_of(lonely)
    lonely.unlink()
    with pytest.raises(BuildError, match="no two"):
        fetch_all(cache, {TARGETS[0]: good, TARGETS[1]: bad}, said.append)
    asked = len(pip.asked)
    fetch_all(cache, {TARGETS[0]: good}, said.append)
    assert len(pip.asked) == asked


def test_what_a_killed_download_left_is_cleared(
    tmp_path: Path, index: Path, cache: Cache, pip: FakePip, said: list[str]
) -> None:
    (tmp_path / "cache/incoming/left/wheels").mkdir(parents=True)
    fetch_all(cache, {HOST: pins_of(make_wheel(index, "one"))}, said.append)
    assert list((tmp_path / "cache/incoming").iterdir()) == []


def test_pip_is_asked_for_the_host_s_wheels_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    wheels._run_pip(BuildTarget(10, "aarch64"), tmp_path / "r.txt", tmp_path / "out")
    (command,) = commands
    assert {"--require-hashes", "--no-deps", "manylinux_2_28_aarch64", "cp310", "abi3", "3.10"} <= set(command)
    assert command[command.index("--only-binary") + 1] == ":all:"


def test_pip_s_own_words_are_passed_on_without_its_warnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: noise\nERROR: No matching distribution found for one==1.0\n"
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(BuildError, match=r"wheels for cp311-x86_64 cannot be fetched") as error:
        wheels._run_pip(HOST, tmp_path / "r.txt", tmp_path / "out")
    assert "No matching distribution found for one==1.0" in str(error.value)
    assert "noise" not in str(error.value)


def wheel_of(path: Path) -> Wheel:
    return Wheel(path, digest_of(path))


def test_a_complete_set_passes(index: Path) -> None:
    one = make_wheel(index, "one", requires=["two[fast]>=1", "absent; extra == 'more'", "old; python_version < '3.9'"])
    two = make_wheel(index, "two", "1.5", requires=["three; extra == 'fast'"], python=">=3.10")
    three = make_wheel(index, "three", requires=["one"])
    check_complete(HOST, [wheel_of(path) for path in (one, two, three)])


@pytest.mark.parametrize(
    ("requires", "python", "finding"),
    [
        (["absent"], "", "one needs absent, which is not there"),
        (["two>=2"], "", "one needs two>=2, which is 1.5"),
        (["two[fast]"], "", "two needs three"),
        (["late; python_full_version < '3.11.3'"], "", "one needs late"),
        ([], ">=3.12", r"one does not run on Python 3.11 \(>=3.12\)"),
    ],
)
def test_an_incomplete_set_is_an_error(requires: list[str], python: str, finding: str, index: Path) -> None:
    one = make_wheel(index, "one", requires=requires, python=python)
    two = make_wheel(index, "two", "1.5", requires=["three; extra == 'fast'"])
    with pytest.raises(BuildError, match=finding):
        check_complete(HOST, [wheel_of(one), wheel_of(two)])


def test_the_cache_lies_outside_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "linkrift/bundle"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache/linkrift/bundle"

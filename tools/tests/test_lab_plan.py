"""A lab's names and addresses follow from its number, and nonsense is refused before anything is made."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from ansible.module_utils.linkrift_lab.errors import LabError
from ansible.module_utils.linkrift_lab.plan import FREE_NUMBERS, HostSpec, Lab, check_name, host_spec, host_specs
from ansible.module_utils.linkrift_lab.registry import Registry, opened

LAB = Lab(7, "demo", Path("/home/someone/.lab/demo"))
BENCHMARKING = ip_address("198.18.0.0"), ip_address("198.19.255.255")


def test_addresses_follow_from_the_number() -> None:
    host = HostSpec("data1", "bookworm", 31)
    assert str(LAB.address(host)) == "198.18.7.31"
    assert str(LAB.address6(host)) == "fd6c:696e:6b72:7::31"
    assert str(LAB.gateway) == "198.18.7.1"
    assert str(LAB.gateway6) == "fd6c:696e:6b72:7::1"
    assert LAB.address6(host) in LAB.network6


@pytest.mark.parametrize("number", [1, 16, 239])
def test_addresses_never_leave_the_ranges_that_are_nobodys(number: int) -> None:
    lab = Lab(number, "x", Path("/x"))
    assert BENCHMARKING[0] <= lab.network[0] <= lab.network[-1] <= BENCHMARKING[1]
    assert lab.network6.is_private


@pytest.mark.parametrize("octet", [10, 99, 100, 249])
def test_no_host_has_the_gateways_ipv6_address(octet: int) -> None:
    assert LAB.address6(HostSpec("x", "bookworm", octet)) != LAB.gateway6


def test_interface_names_fit_into_the_kernels_fifteen_characters() -> None:
    assert len(Lab(239, "x", Path("/x")).bridge) <= 15


@pytest.mark.parametrize("name", ["", "Data1", "1a", "a_b", "a--b", "-a", "a-", "a/b", "a b", "x" * 33, "ä"])
def test_a_name_that_cannot_be_a_host_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="letters"):
        check_name(name, what="host")


def test_a_name_alone_takes_what_is_known_of_it() -> None:
    known = {"app3": {"name": "app3", "suite": "trixie", "groups": ["api_hosts"], "address": "198.18.1.23"}}
    assert host_specs(["app3"], known) == [HostSpec("app3", "trixie", 23, ("api_hosts",))]


def test_own_settings_win_over_known_ones() -> None:
    known = {"app3": {"name": "app3", "suite": "trixie", "groups": ["api_hosts"], "address": "198.18.1.23"}}
    [spec] = host_specs([{"name": "app3", "suite": "bookworm", "groups": [], "address": 77}], known)
    assert (spec.suite, spec.octet, spec.groups) == ("bookworm", 77, ())


def test_nothing_wanted_means_everything_known() -> None:
    known = {name: {"name": name} for name in ("a", "b")}
    assert [spec.name for spec in host_specs([], known)] == ["a", "b"]


def test_hosts_without_addresses_get_free_ones() -> None:
    specs = host_specs([{"name": "a", "address": 100}, "b", "c"], {})
    assert [spec.octet for spec in specs] == [100, 101, 102]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "a", "suite": "buster"}, "buster"),
        ({"name": "a", "address": 9}, "last byte"),
        ({"name": "a", "address": 250}, "last byte"),
        ({"name": "a", "address": "198.18.1.x"}, "last byte"),
        ({"name": "a", "groups": ["api-hosts"]}, "group"),
        ({"name": "a", "sweet": "bookworm"}, "sweet"),
        ({"suite": "bookworm"}, "host ''"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(entry: dict[str, object], words: str) -> None:
    with pytest.raises(LabError, match=words):
        host_spec(entry, octet=100)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [(["a", "a"], "same name: a"), ([{"name": "a", "address": 50}, {"name": "b", "address": 50}], "same address: 50")],
)
def test_two_hosts_share_nothing(wanted: list[object], words: str) -> None:
    with pytest.raises(LabError, match=words):
        host_specs(wanted, {})


def test_a_lab_needs_a_host() -> None:
    with pytest.raises(LabError, match="at least one"):
        host_specs([], {})


def test_labs_with_other_directories_get_other_numbers(tmp_path: Path) -> None:
    with opened(tmp_path) as labs:
        numbers = {labs.take("demo", tmp_path / str(count)).number for count in range(5)}
    assert len(numbers) == 5
    assert numbers <= set(FREE_NUMBERS)


def test_a_lab_keeps_its_number(tmp_path: Path) -> None:
    with opened(tmp_path) as labs:
        first = labs.take("demo", tmp_path / "demo")
        labs.take("other", tmp_path / "other")
    with opened(tmp_path) as labs:
        assert labs.take("demo", tmp_path / "demo") == first
        assert labs.find(tmp_path / "demo") == first


def test_a_name_comes_back_to_its_number(tmp_path: Path) -> None:
    with opened(tmp_path) as labs:
        first = labs.take("demo", tmp_path / "demo")
        labs.release(first)
        assert labs.find(tmp_path / "demo") is None
        assert labs.take("demo", tmp_path / "demo").number == first.number


def test_a_number_that_another_lab_has_is_refused_with_its_owner(tmp_path: Path) -> None:
    with opened(tmp_path) as labs:
        labs.take("main", tmp_path / "one", 1)
        with pytest.raises(LabError, match=r"198\.18\.1\.0/24 is taken by lab 'main' of .*/one"):
            labs.take("main", tmp_path / "two", 1)
        assert labs.take("main", tmp_path / "one", 1).number == 1


def test_a_lab_does_not_change_its_number(tmp_path: Path) -> None:
    with opened(tmp_path) as labs:
        labs.take("main", tmp_path / "one", 1)
        with pytest.raises(LabError, match="number 1 already"):
            labs.take("main", tmp_path / "one", 2)


def test_no_number_is_left(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for number in FREE_NUMBERS:
        registry.take("x", tmp_path / str(number), number)
    with pytest.raises(LabError, match="no number left"):
        registry.take("one-more", tmp_path / "more")


@pytest.mark.parametrize("name", ["tls", "inventory", "cp"])
def test_a_lab_is_not_called_like_a_directory_of_the_main_one(name: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="main lab"):
        Registry(tmp_path).take(name, tmp_path / name)

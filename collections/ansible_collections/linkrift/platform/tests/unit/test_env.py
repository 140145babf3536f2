# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.linkrift.platform.plugins.filter.env_file import env_file
from ansible_collections.linkrift.platform.plugins.filter.env_findings import env_findings
from ansible_collections.linkrift.platform.plugins.filter.fleet_release import fleet_release
from ansible_collections.linkrift.platform.plugins.module_utils import _env as env

OWN = {"LINKRIFT_API_PORT": "8180", "LINKRIFT_SLOT": "green", "LINKRIFT_ADMISSION_FILE": "/var/lib/linkrift/x"}
UNIT = "0" * 64
NASTY = [
    "",
    " ",
    "a b",
    "#x",
    ";x",
    "'",
    '"',
    "\\",
    "$HOME",
    "`id`",
    "a\\",
    '\\"',
    "x # y",
    " x ",
    "ü€",
    "a=b",
    "!",
    "%i",
    "~",
]
values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@pytest.mark.parametrize("value", NASTY)
def test_value_reads_back_as_it_was(value: str) -> None:
    assert env.parse(env.render({"A": "first", "B": value, "C": "last"})) == {"A": "first", "B": value, "C": "last"}


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True), values, max_size=5))
def test_any_variables_read_back_as_they_were(variables: dict[str, str]) -> None:
    assert env.parse(env.render(variables, "two\nlines")) == variables


def test_shell_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "env"
    variables = {f"V{number}": value for number, value in enumerate(NASTY)}
    path.write_text(env.render(variables))
    names = " ".join(f'"${name}"' for name in variables)
    shown = subprocess.run(
        ["/bin/sh", "-c", f". {path}; printf '%s\\0' {names}"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\0")[:-1] == NASTY


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("  A = 1  \n", {"A": "1"}),
        ("# c\n; c\n\nA=1\n", {"A": "1"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=a b  \n", {"A": "a b"}),
        ("A='a\\b$c'\n", {"A": "a\\b$c"}),
        ("A='one'\"two\"three\n", {"A": "onetwothree"}),
        ("A='one' \"two\"\n", {"A": "onetwo"}),
        ('A="a\\nb"\n', {"A": "a\\nb"}),
        ('A="two\nlines"\nB=1', {"A": "two\nlines", "B": "1"}),
        ('A="con\\\ntinued"\n', {"A": "continued"}),
        ("A=con\\\ntinued\n", {"A": "continued"}),
        ("A=b\\ \n", {"A": "b "}),
        ('A=b"c"\n', {"A": 'b"c"'}),
        ("A=\r\nB=2\r\n", {"A": "", "B": "2"}),
        ("A=x#y # z\n", {"A": "x#y # z"}),
    ],
)
def test_files_are_read_as_systemd_reads_them(text: str, expected: dict[str, str]) -> None:
    assert env.parse(text) == expected


@given(st.text("A= \t\r\n\\'\"$`#;x", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(env.EnvError):
        env.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nnothing\n", "line 2 is no assignment"),
        ("1A=1\n", "line 1 is no assignment"),
        ("export A=1\n", "line 1 is no assignment"),
        ('B=1\nA="secret\n', 'A in line 2 has no closing "'),
        ("A='secret\n", "A in line 1 has no closing '"),
        ("# comment \\\nA=1\n", "line 1 is a comment that ends in a backslash"),
    ],
)
def test_malformed_file_is_refused_by_line_without_its_value(text: str, message: str) -> None:
    with pytest.raises(env.EnvError, match=message) as failure:
        env.parse(text)
    assert "secret" not in str(failure.value)


def test_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.env"
    path.write_bytes(b"A=\xff\n")
    with pytest.raises(env.EnvError, match=r"x\.env is not valid UTF-8"):
        env.read(path)
    path.write_text("nothing")
    with pytest.raises(env.EnvError, match=r"x\.env: line 1"):
        env.read(path)


@pytest.mark.parametrize(
    ("variables", "finding"),
    [
        ({"A": "secret\nsecret"}, "A holds a line break"),
        ({"A": "secret\0"}, "A holds a line break or another control character"),
        ({"A": "secret\t"}, "A holds a line break or another control character"),
        ({"A": "\udcff"}, "A is not valid UTF-8"),
        ({"A": None}, "A must be text, a number or a boolean, not NoneType"),
        ({"A": ["secret"]}, "A must be text, a number or a boolean, not list"),
        ({"a": "secret"}, "'a' is no name of a variable"),
        ({"A B": "secret"}, "'A B' is no name"),
        ({"LINKRIFT_API_PORT": 8080}, "LINKRIFT_API_PORT belongs to the slot"),
        ({"LINKRIFT_SLOT": "blue"}, "LINKRIFT_SLOT belongs to the slot"),
        ({"LINKRIFT_ADMISSION_FILE": "secret"}, "LINKRIFT_ADMISSION_FILE belongs to the slot"),
        ({"LINKRIFT_LIVE_LINK": "secret"}, "LINKRIFT_LIVE_LINK belongs to the slot"),
    ],
)
def test_what_cannot_be_written_is_named_without_its_value(variables: dict[str, Any], finding: str) -> None:
    found = env_findings({"GOOD": "1", **variables})
    assert len(found) == 1
    assert found[0].startswith(finding)
    assert "secret" not in found[0]
    with pytest.raises(AnsibleFilterError, match=r"^" + finding.replace("(", r"\(")):
        env_file(variables)


def test_filters_want_a_dictionary() -> None:
    assert "not list" in env_findings(cast("dict[str, Any]", []))[0]
    with pytest.raises(AnsibleFilterError, match="not list"):
        env_file(cast("dict[str, Any]", []))


def test_rendered_file_is_sorted_and_has_its_header() -> None:
    text = env_file({"B": True, "A": 1, "C": 1.5, "D": "plain/value:1"}, "Rendered.")
    assert text == "# Rendered.\nA=1\nB=true\nC=1.5\nD=plain/value:1\n"


# --- pinning ---


@pytest.mark.parametrize("rendered", ["A=1 \\", 'A="x" \\\n', "A=1\n\n\n", ""])
def test_nothing_before_them_reaches_into_the_slots_lines(rendered: str) -> None:
    variables = env.parse(env.pinned_text(rendered, OWN, UNIT))
    assert {name: variables[name] for name in OWN} == OWN


def test_slots_lines_come_last_and_win() -> None:
    text = env.pinned_text("A=1\nLINKRIFT_API_PORT=8080\n", OWN, UNIT)
    assert env.parse(text) == {"A": "1", **OWN}
    assert text.startswith("A=1\nLINKRIFT_API_PORT=8080\n")
    assert env.pinned_unit(text) == UNIT


@pytest.mark.parametrize("rendered", ['A="open', "A='open", "# comment \\", "no assignment"])
def test_rendered_file_that_would_swallow_the_slots_lines_is_refused(rendered: str) -> None:
    with pytest.raises(env.EnvError):
        env.pinned_text(rendered, OWN, UNIT)


def test_pinned_file_says_what_it_was_pinned_from() -> None:
    config = env.Config.of_rendered("B=2\nA=1\n", UNIT)
    assert env.Config.of_pinned(env.pinned_text("A=1\n# said otherwise\nB='2'\n", OWN, UNIT)) == config
    assert env.Config.of_pinned("A=1\n").unit == ""


def test_digest_depends_on_variables_unit_and_key() -> None:
    config = env.Config({"A": "1"}, UNIT)
    digests = {
        config.digest(b"k"),
        config.digest(b"other"),
        env.Config({"A": "2"}, UNIT).digest(b"k"),
        env.Config({"A": "1", "B": ""}, UNIT).digest(b"k"),
        env.Config({"A": "1"}, "1" * 64).digest(b"k"),
    }
    assert len(digests) == 5
    assert all(len(digest) == 16 for digest in digests)


def test_changes_are_told_by_name_only() -> None:
    old = env.Config({"KEPT": "x", "GONE": "x", "OTHER": "old-secret"}, UNIT)
    new = env.Config({"KEPT": "x", "NEW": "x", "OTHER": "new-secret"}, "1" * 64)
    assert new.changes_from(old) == ["GONE removed", "NEW added", "OTHER changed", "unit file changed"]
    assert new.changes_from(None) == []


def test_key_is_made_once_and_only_when_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "digest.key"
    assert env.digest_key(path, create=False) is None
    key = env.digest_key(path, create=True)
    assert key is not None
    assert len(key) == 32
    assert env.digest_key(path, create=True) == env.digest_key(path, create=False) == key
    assert [entry.name for entry in path.parent.iterdir()] == ["digest.key"]


def test_first_of_two_keys_made_at_once_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "digest.key"

    def other_run_was_first(_count: int) -> bytes:
        path.write_bytes(b"first")
        return b"second"

    monkeypatch.setattr("secrets.token_bytes", other_run_was_first)
    assert env.digest_key(path, create=True) == b"first"
    assert [entry.name for entry in tmp_path.iterdir()] == ["digest.key"]


# --- masking ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("login with s3cr3t/+= failed", "login with ******** failed"),
        ("redis://:pw-of-redis@redis:6379/0", "redis://:********@redis:6379/0"),
        ("postgresql://u:other@db/x", "postgresql://u:********@db/x"),
        ('{"password": "other"}', '{"password": "********"}'),
        ("token=abc&x=1", "token=********&x=1"),
        ("level info, port 8080", "level info, port 8080"),
        ("pw-of-redis alone", "******** alone"),
        # What is wrong with a setting is for the operator to see.
        ("X_SECRET: missing; expected 32 characters", "X_SECRET: missing; expected 32 characters"),
        ("X_PASSWORD: expected text", "X_PASSWORD: expected text"),
        ("X_PASSWORD: missing", "X_PASSWORD: ********"),
        ("X_PASSWORD: expected;", "X_PASSWORD: ********;"),
    ],
)
def test_secrets_are_masked(text: str, expected: str) -> None:
    variables = {
        "LINKRIFT_DB_PASSWORD": "s3cr3t/+=",
        "LINKRIFT_REDIS_URL": "redis://:pw-of-redis@redis:6379/0",
        "LINKRIFT_LOG_LEVEL": "info",
        "LINKRIFT_EMPTY_SECRET": "",
    }
    assert env.masked(text, variables) == expected if "redis://" not in text else expected.endswith("/0")
    assert "pw-of-redis" not in env.masked(text, variables)


def test_data_is_masked_to_its_depth() -> None:
    data = {"checks": [{"error": "no s3cr3t here", "n": 1, "token": "other", "ok": None}]}
    masked = env.masked_data(data, {"X_SECRET": "s3cr3t"})
    assert masked == {"checks": [{"error": "no ******** here", "n": 1, "token": "********", "ok": None}]}
    assert json.dumps(masked)


# --- which release ---


def info(release: str | None) -> dict[str, Any]:
    slots = {"blue": {"release": release}, "green": {"release": "9.9.9+999999999999"}}
    return {"services": {"api": {"live": "blue" if release else None, "slots": slots}}}


@pytest.mark.parametrize(
    ("infos", "expected"),
    [
        ({}, "new"),
        ({"a": info(None), "b": {}, "c": None}, "new"),
        ({"a": info("old"), "b": info(None)}, "old"),
        ({"a": info("old"), "b": info("old")}, "old"),
    ],
)
def test_new_host_takes_what_the_others_run(infos: dict[str, Any], expected: str) -> None:
    assert fleet_release(infos, "api", "new") == expected
    assert fleet_release(infos, "worker", "new") == "new"


def test_mixed_fleet_has_no_release() -> None:
    with pytest.raises(AnsibleFilterError, match=r"different releases of api \(1 on a; 2 on b, c\): finish or undo"):
        fleet_release({"b": info("2"), "a": info("1"), "c": info("2")}, "api", "new")

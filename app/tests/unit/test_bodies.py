"""Bodies that are not read, answers that are compressed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkrift.api import bodies
from linkrift.api.compression import takes_gzip

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.text(max_size=20)),
    lambda children: st.one_of(
        st.lists(children, max_size=4), st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_a_body_is_read_unless_it_is_too_deep(value: Any, plain: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=plain, indent=indent).encode("utf-8", "surrogatepass")
    if depth_of(value) > bodies.MAXIMUM_DEPTH:
        with pytest.raises(bodies.BodyError, match="nested"):
            bodies.check(data)
        return
    bodies.check(data)
    assert json.loads(bodies.canonical(data)) == value


def test_what_is_refused_before_it_is_parsed() -> None:
    bodies.check(b"[" * 8 + b"]" * 8)
    for data, message in (
        (b"[" * 9 + b"]" * 9, "nested"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "nested"),
        (b"[" * 60_000, "nested"),
        (b'{"a": 1, "a": 2}', "twice"),
        (b'{"x": {"a": 1, "\\u0061": 2}}', "twice"),
        (b'{"a": ' + b"1" * 33 + b"}", "number"),
        (b"-0." + b"0" * 30 + b"1", "number"),
        (b'"\xff"', "JSON"),
        (b"", "JSON"),
        (b'{"a": "' + b"\\" * 60_000, "JSON"),
        # Found in one go; otherwise these would take days and minutes.
        (b'"' + b"a" * 60_000, "JSON"),
        (b'"' + b'\\"' * 30_000, "JSON"),
    ):
        with pytest.raises(bodies.BodyError, match=message):
            bodies.check(data)
    # Within a text, everything is just text.
    bodies.check(json.dumps({"title": "[" * 200 + "1" * 200 + '\\"{'}).encode())


def test_all_spellings_of_a_body_are_one() -> None:
    assert bodies.canonical(b'{"b": "\\u0041", "a": 1}') == bodies.canonical(b' {"a":1,"b":"A"}')
    assert bodies.canonical(b'{"a": 1}') != bodies.canonical(b'{"a": "1"}')


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip; q=0.001", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("x-gzip", True),
        ("gzip;q=nan", False),
        ("gzip;q=-1", False),
        ("deflate;q=1, *;q=0.1", True),
    ],
)
def test_who_takes_gzip(accepted: str, takes: bool) -> None:
    assert takes_gzip(accepted) is takes

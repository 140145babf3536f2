# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""HAProxy's access log: what is counted as what, for which stretch of time, from which files."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _access_log as log
from ansible_collections.linkrift.platform.plugins.module_utils._access_log import Counts, Figures, Mark
from ansible_collections.linkrift.platform.plugins.modules import access_log_info

T0 = 1_790_000_000
FINE: dict[str, Any] = {
    "status": 302,
    "frontend": "linkrift_tls",
    "backend": "linkrift_redirect",
    "server": "app1-blue",
    "end": "--",
    "total_ms": 1,
    "retries": "0",
}


def line(second: int = T0, **fields: object) -> bytes:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
    return json.dumps({"time": stamp, **FINE, **fields}, separators=(",", ":")).encode() + b"\n"


def count(*lines: bytes, marks: tuple[Mark, ...] = (), since: float = 0, until: float = math.inf) -> dict[str, Any]:
    counts = Counts(marks)
    counts.add_lines(lines, since, until)
    return counts.as_dict()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"status": 404}, ""),
        ({"status": 500}, "failed"),
        ({"status": 503, "end": "SC"}, "failed"),
        ({"status": 200, "end": "SD"}, "failed"),
        ({"status": 200, "end": "sD"}, "failed"),
        ({"status": 200, "end": "DD"}, "failed"),
        ({"status": 200, "end": "KD"}, "failed"),
        ({"status": 200, "end": "PD"}, "failed"),
        ({"status": 200, "end": "CD"}, "aborted"),
        ({"status": 408, "end": "cR"}, "aborted"),
        ({"status": -1, "end": "CR", "total_ms": -1}, "aborted"),
        ({"status": 403, "end": "PR"}, ""),
        ({"status": 421, "end": "LR"}, ""),
        ({"retries": "1"}, "retried"),
        ({"retries": "+0"}, "retried"),
        ({"retries": "+1", "status": 503, "end": "SC"}, "failed retried"),
    ],
)
def test_whose_fault_it_was(fields: dict[str, object], expected: str) -> None:
    total = count(line(**fields))["total"]
    assert total["requests"] == 1
    assert [name for name in ("failed", "aborted", "retried") if total[name]] == expected.split()
    assert total["ends"] == ({} if fields.get("end", "--") == "--" else {fields["end"]: 1})


def test_services_and_slots_apart() -> None:
    told = count(
        line(),
        line(server="app2-green", status=500),
        line(backend="linkrift_api", server="<NOSRV>", status=503),
        line(backend="linkrift_tls", server="<NOSRV>", status=421),
        line(backend="acme_challenges", server="<NOSRV>"),
    )
    assert told["total"]["requests"] == 3
    assert told["unrouted"]["requests"] == 2
    redirect = told["services"]["redirect"]
    assert (redirect["requests"], redirect["failed"]) == (2, 1)
    assert {name: server["failed"] for name, server in redirect["servers"].items()} == {"app1-blue": 0, "app2-green": 1}
    assert list(told["services"]["api"]["servers"]) == ["<NOSRV>"]


def test_every_second_is_in_one_mark() -> None:
    marks = (Mark.between("before", T0 - 2, T0 + 0.4), Mark.between("during", T0 + 0.4, T0 + 1.9))
    assert marks[0].until == marks[1].since
    lines = [line(second) for second in (T0 - 3, T0 - 2, T0 - 1, T0, T0, T0 + 1)]
    told = count(*lines, marks=marks)["marks"]
    assert [told[name]["total"]["requests"] for name in ("before", "during")] == [2, 2]
    assert told["during"]["services"]["redirect"]["servers"]["app1-blue"]["requests"] == 2


def test_a_mark_has_a_second_at_least() -> None:
    assert Mark.between("x", T0 + 0.2, T0 + 0.3) == Mark("x", T0, T0 + 1)


def test_the_stretch_has_its_first_second_and_not_its_last() -> None:
    lines = [line(T0 - 1), line(T0), line(T0 + 1), line(T0 + 2)]
    assert count(*lines, since=T0, until=T0 + 2)["total"]["requests"] == 2


@pytest.mark.parametrize(
    ("text", "unreadable"),
    [
        (line()[:60] + b"\n", 1),
        (line(status="302"), 1),
        (line(total_ms=1.5), 1),
        (line(retries=None), 1),
        (line(server=None), 1),
        (b'{"time":"2026-09-21T14:13:20Z","status":302}\n', 1),
        (b'{"time":"2026-09-21T14:13:20.123456+00:00","message":"SSL handshake failure"}\n', 0),
        (b'{"time":"2026-99-99T99:99:99Z"}\n', 0),
        (b"\0" * 100 + b"\n", 0),
    ],
)
def test_what_is_no_request_and_what_was_cut_off(text: bytes, unreadable: int) -> None:
    told = count(text, line())
    assert (told["unreadable"], told["total"]["requests"]) == (unreadable, 1)


def test_a_request_without_a_time() -> None:
    assert count(line(total_ms=-1))["total"]["histogram"] == []


def test_times() -> None:
    assert log.percentile({}, 0.5) is None
    assert log.percentile({1: 99, 7: 1}, 0.99) == 1
    assert log.percentile({1: 98, 7: 2}, 0.99) == 7
    assert log.percentile({3: 1}, 0.5) == 3
    assert [log.step_of(value) for value in (0, 1, 127, 128, 129, 130, 255, 256, 259)] == [
        *(0, 1, 127, 129, 129, 131, 255, 259, 259)
    ]
    assert all(value <= log.step_of(value) <= value * 1.016 for value in range(1, 200_000, 7))
    assert len({log.step_of(value) for value in range(86_400_000 // 997)}) < 1000


def test_figures_of_several_logs_add_up() -> None:
    one, two = Figures(), Figures()
    for figures, spent in ((one, 1), (two, 500), (two, 500)):
        figures.add({**FINE, "total_ms": spent, "status": 500, "end": "SD", "retries": "1"})
    one.merge(Figures.of(json.loads(json.dumps(two.as_dict()))))
    assert one == Figures(3, 3, 0, 3, Counter(SD=3), Counter({1: 1, 503: 2}))
    assert one.as_dict()["p50_ms"] == 503


def test_role_haproxy_writes_what_is_read_here() -> None:
    variables = yaml.safe_load((Path(__file__).parents[2] / "roles/haproxy/vars/main.yml").read_text(encoding="utf-8"))
    text = variables["__haproxy_log_format"].replace("%[date,utime(%Y-%m-%dT%H:%M:%SZ)]", "2026-09-21T14:13:20Z")
    # Numbers are not quoted; everything else is a word.
    text = re.sub(r"(?<=:)%\w+(?=[,}])", "7", re.sub(r"%\[.*?(?=\]\")\]", "x", text))
    entry = json.loads(text) | {"status": 302, "retries": "0"}
    assert set(FINE) <= set(entry)
    told = count(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
    assert (told["unreadable"], told["unrouted"]["requests"], told["unrouted"]["p50_ms"]) == (0, 1, 7)
    assert log.second_of(text.encode()) == T0


# -- files -------------------------------------------------------------------------------------------------------------


def written(path: Path, *lines: bytes, age: int = 0) -> Path:
    text = b"".join(lines)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    os.utime(path, (T0 - age, T0 - age))
    return path


def read(path: Path, since: float = T0, until: float = math.inf) -> tuple[int, list[str]]:
    counts, names = log.read(path, since, until, [])
    return counts.as_dict()["total"]["requests"], [Path(name).name for name in names]


def test_what_was_rotated_away_is_read_as_far_as_it_is_needed(tmp_path: Path) -> None:
    path = written(tmp_path / "access.log", line(T0 + 5))
    written(tmp_path / "access.log-20260921-300", line(T0 + 1), line(T0 - 1))
    written(tmp_path / "access.log-20260920-200.gz", line(T0), line(T0 - 5))
    written(tmp_path / "access.log-20260919-100.gz", line(T0), age=86400)
    written(tmp_path / "access.log-old", line(T0))
    assert read(path) == (3, ["access.log", "access.log-20260921-300", "access.log-20260920-200.gz"])


def test_one_that_is_being_packed_is_counted_once(tmp_path: Path) -> None:
    path = written(tmp_path / "access.log")
    written(tmp_path / "access.log-20260921-300", line())
    (tmp_path / "access.log-20260921-300.gz").write_bytes(gzip.compress(line())[:10])
    assert read(path)[0] == 1


def test_a_log_that_is_rotated_meanwhile_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "access.log", line())
    real = log._newest_first

    def rotate(name: Path) -> Any:
        for found in real(name):
            yield found
            # Read by now.
            if found == path:
                path.rename(tmp_path / "access.log-20260921-300")

    monkeypatch.setattr(log, "_newest_first", rotate)
    assert read(path) == (1, ["access.log"])


def test_between_rename_and_the_new_file_there_is_a_log(tmp_path: Path) -> None:
    written(tmp_path / "access.log-20260921-300", line())
    assert read(tmp_path / "access.log") == (1, ["access.log-20260921-300"])


@pytest.mark.parametrize("directory", [".", "nowhere"])
def test_no_log_is_not_no_requests(tmp_path: Path, directory: str) -> None:
    with pytest.raises(log.AccessLogError, match="there is no access log"):
        read(tmp_path / directory / "access.log")


def test_a_damaged_archive_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "access.log")
    (tmp_path / "access.log-20260921-300.gz").write_bytes(gzip.compress(line() * 1000)[:-20])
    with pytest.raises(log.AccessLogError, match="cannot be read"):
        read(path, since=0)


def test_a_line_that_is_still_being_written_waits(tmp_path: Path) -> None:
    assert read(written(tmp_path / "access.log", line(), line()[:-1]))[0] == 1


@pytest.mark.parametrize("size", [0, 1, 3000])
@pytest.mark.parametrize("begin", [-1, 0, 1, 499, 777, 999, 1000, 5000])
def test_the_place_is_found_without_reading_all(tmp_path: Path, size: int, begin: int) -> None:
    other = b'{"time":"2026-09-21T14:13:20.123456+00:00","message":"' + b"x" * 200 + b'"}\n'
    path = written(tmp_path / "access.log", *(line(T0 + n // 3) + other * (n % 3) for n in range(size)))
    with path.open("rb") as file:
        place = log.find(file, T0 + begin)
        file.seek(0)
        passed = [log.second_of(text) for text in file.read(place).splitlines(keepends=True)]
    assert all(second is None or second < T0 + begin for second in passed)
    expected = sum(n // 3 >= begin for n in range(size))
    assert read(path, since=T0 + begin)[0] == expected
    wanted = path.stat().st_size * max(begin, 0) // 1000
    assert place >= min(wanted, path.stat().st_size) - 2 * 64 * 1024 or size < 1000


def test_what_is_long_before_and_long_after_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "access.log", *(line(T0 + n) for n in range(5000)))
    seen: list[bytes] = []
    monkeypatch.setattr(Counts, "add_lines", lambda _self, lines, *_words: seen.extend(lines))
    log.read(path, T0 + 4000, T0 + 4005, [])
    assert line(T0 + 4000) in seen
    assert len(seen) < 1000


def test_what_was_packed_since_it_was_listed_is_found(tmp_path: Path) -> None:
    written(tmp_path / "access.log-20260921-300.gz", line())
    with log._open(tmp_path / "access.log-20260921-300") as file:
        assert list(log._lines(file, T0, math.inf)) == [line()]


# -- module ------------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        access_log_info.main()
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_the_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "access.log", line(T0 - 1), line(), line(T0 + 1, status=500), line(T0 + 9))
    marks = [{"name": "during", "from": T0 + 0.5, "until": T0 + 2}]
    told = run(capsys, path=str(path), marks=marks)
    assert not told["changed"]
    assert told["total"]["requests"] == 3, "from the first mark on"
    assert (told["marks"]["during"]["total"]["requests"], told["marks"]["during"]["total"]["failed"]) == (2, 1)
    assert told["files"] == [str(path)]
    assert run(capsys, path=str(path), since=T0, until=T0 + 1)["total"]["requests"] == 1
    assert "since when?" in run(capsys, path=str(path))["msg"]
    assert "same name" in run(capsys, path=str(path), marks=marks * 2)["msg"]
    assert "no access log" in run(capsys, path=str(tmp_path / "x"), since=0)["msg"]

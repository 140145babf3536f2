"""The load generator counts every request that a visitor would have missed."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import load


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/close":
            self.close_connection = True
            return
        self.send_response(302 if self.path == "/known" else 404)
        self.send_header("X-Deployment-Version", "1.0+abc")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def report(*arguments: str) -> dict[str, object]:
    return load.run(load.parse_arguments(list(arguments)))


def test_answers_are_counted(server: str) -> None:
    figures = report(f"{server}/known", "--count", "20", "--connections", "2")
    assert (figures["requests"], figures["failed"]) == (20, 0)
    assert figures["versions"] == {"1.0+abc": 20}


def test_right_answers_are_told_by_path_when_asked_for(server: str) -> None:
    figures = report(f"{server}/known", f"{server}/unknown", "--count", "10", "--connections", "2", "--by-path")
    assert figures["paths"] == {"/known": 5}
    assert "paths" not in report(f"{server}/known", "--count", "1")


@pytest.mark.parametrize("path", ["unknown", "close"])
def test_what_is_not_the_expected_answer_is_a_failure(server: str, path: str) -> None:
    figures = report(f"{server}/known", f"{server}/{path}", "--count", "10")
    assert (figures["requests"], figures["failed"]) == (10, 5)


def test_a_server_that_is_away_is_a_failure() -> None:
    assert report("http://127.0.0.1:1/x", "--count", "3")["failed"] == 3


def test_the_stop_file_ends_it(server: str, tmp_path: Path) -> None:
    (tmp_path / "stop").touch()
    assert report(f"{server}/known", "--stop-file", str(tmp_path / "stop"))["requests"] == 0


def test_urls_come_from_a_file(server: str, tmp_path: Path) -> None:
    (tmp_path / "urls").write_text(f"{server}/known\n{server}/known\n")
    assert report(f"@{tmp_path}/urls", "--count", "4")["failed"] == 0


def test_each_request_is_written_down_when_asked_for(server: str, tmp_path: Path) -> None:
    file = tmp_path / "samples"
    report(f"{server}/known", f"{server}/close", "--count", "6", "--connections", "2", "--samples", str(file))
    rows = [line.split() for line in file.read_text().splitlines()]
    assert sorted(fine for _began, _ms, fine in rows) == ["0"] * 3 + ["1"] * 3
    began = [float(row[0]) for row in rows]
    assert began == sorted(began)
    assert all(0 < float(ms) < 5000 for _began, ms, _fine in rows)


def test_percentiles_are_nearest_rank() -> None:
    ordered = [index / 1000 for index in range(1, 101)]
    assert (load.percentile(ordered, 0.5), load.percentile(ordered, 0.99)) == (50.0, 99.0)
    assert load.percentile([], 0.5) is None


@pytest.mark.parametrize("wrong", [["--seconds", "0"], ["--seconds", "99999"], ["--connections", "0"]])
def test_an_unbounded_load_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        load.parse_arguments(["http://127.0.0.1/", *wrong])

"""What a service tells of itself where its unit lets it see little of the machine."""

from __future__ import annotations

import os

import pytest

from linkrift import metrics


@pytest.mark.parametrize("hidden", [False, True])
def test_memory_is_told_once_whatever_the_unit_hides(hidden: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if hidden:  # /proc/stat, with ProcSubset=pid
        monkeypatch.setattr(metrics.PROCESS_COLLECTOR, "_btime", 0)
    lines = metrics.render([os.getpid()]).decode().splitlines()
    (found,) = (line for line in lines if line.startswith("process_resident_memory_bytes "))
    assert float(found.split()[1]) > 1_000_000

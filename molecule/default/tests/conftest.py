"""Fixtures for the checks of the default scenario."""

from __future__ import annotations

import pytest

from tools.testing.lab_hosts import Lab, find_lab


@pytest.fixture(scope="session")
def lab() -> Lab:
    return find_lab()

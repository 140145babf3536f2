"""What all unit tests of the collection share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def on_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have modules run as on a host, where their warnings are part of the result.

    Once a test has imported a filter, Ansible takes the whole process for a control node, which shows warnings itself.
    It keeps them for the whole process, too: a test sees its own only.
    """
    monkeypatch.setattr("ansible.module_utils.common.warnings._global_warnings", {})
    monkeypatch.setattr("ansible.module_utils._internal.is_controller", False)

"""What the scenarios' sequences name is there: molecule passes over what it does not find."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tools.gates import ALL, ROOT

SCENARIOS = sorted(path.parent for path in (ROOT / "molecule").glob("*/molecule.yml"))
# Without one of these, molecule skips the step, whatever else it is given.
DEFAULTS = {
    "create": "create.yml",
    "destroy": "destroy.yml",
    "prepare": "prepare.yml",
    "side_effect": "side_effect.yml",
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_every_step_has_something_to_do(scenario: Path) -> None:
    settings = yaml.safe_load((scenario / "molecule.yml").read_text(encoding="utf-8"))
    for step in settings["scenario"]["test_sequence"]:
        name, *arguments = step.split()
        assert name not in DEFAULTS or (scenario / DEFAULTS[name]).is_file(), step
        for argument in arguments or (["tests"] if name == "verify" else []):
            path = scenario / argument
            assert path.is_file() or list(path.glob("test_*.py")), step


def test_every_scenario_is_a_gate() -> None:
    assert {f"molecule-{scenario.name}" for scenario in SCENARIOS} <= set(ALL)

"""What every role of the collection keeps to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).parents[2] / "roles"
SHORT_NAMES = {"apt", "assert", "command", "copy", "debug", "file", "include_tasks", "shell", "template"}
NAMES = sorted(path.name for path in ROLES.iterdir() if (path / "tasks").is_dir())


def load(path: Path) -> Any:
    """Return a YAML file's content, an empty dictionary for a file that is not there."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def entry_points(role: str) -> dict[str, dict[str, Any]]:
    """Return the role's entry points: the options of each."""
    specs = load(ROLES / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    return {name: spec.get("options", {}) for name, spec in specs.items()}


def tasks_in(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a file, those in blocks, too."""
    for task in node or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_in(task.get(part))


def all_tasks(role: str) -> list[tuple[str, dict[str, Any]]]:
    """Return all tasks of a role with their files' names."""
    files = [*(ROLES / role / "tasks").rglob("*.yml"), *(ROLES / role / "handlers").rglob("*.yml")]
    return [(path.name, task) for path in files for task in tasks_in(load(path))]


def test_there_are_roles() -> None:
    assert NAMES


@pytest.mark.parametrize("role", NAMES)
def test_every_entry_point_has_a_specification(role: str) -> None:
    # A task file that the role itself includes is no entry point; what others may include is said in the specification.
    assert "main" in entry_points(role)
    for name in entry_points(role):
        assert (ROLES / role / "tasks" / f"{name}.yml").is_file(), f"{role}: no tasks/{name}.yml"


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_specification_name_the_same_variables(role: str) -> None:
    defaults = load(ROLES / role / "defaults" / "main.yml")
    options: dict[str, dict[str, Any]] = {}
    for entry_point in entry_points(role).values():
        options |= entry_point
    required = {name for name, option in options.items() if option.get("required")}
    assert set(defaults) - set(options) == set(), "in defaults/main.yml only"
    assert set(options) - set(defaults) - required == set(), "in meta/argument_specs.yml only, and not required"


@pytest.mark.parametrize("role", NAMES)
def test_the_specification_shows_the_defaults_as_they_are(role: str) -> None:
    defaults = load(ROLES / role / "defaults" / "main.yml")
    for options in entry_points(role).values():
        for name, option in options.items():
            if "default" in option:
                assert option["default"] == defaults[name], name


@pytest.mark.parametrize("role", NAMES)
def test_variables_are_named_for_the_role(role: str) -> None:
    for name in load(ROLES / role / "defaults" / "main.yml"):
        assert name.startswith(f"{role}_"), name
    for name in load(ROLES / role / "vars" / "main.yml"):
        assert name.startswith(f"__{role}_"), name


@pytest.mark.parametrize("role", NAMES)
def test_every_option_is_described(role: str) -> None:
    for options in entry_points(role).values():
        for name, option in options.items():
            assert option.get("description"), name
            assert option.get("type"), name


@pytest.mark.parametrize("role", NAMES)
def test_secrets_are_marked(role: str) -> None:
    for options in entry_points(role).values():
        for name, option in options.items():
            if re.search(r"(password|secret|private_key|token)s?$", name):
                assert option.get("no_log"), f"{name} without no_log"


@pytest.mark.parametrize("role", NAMES)
def test_tasks_use_full_names_and_hide_nothing(role: str) -> None:
    for file, task in all_tasks(role):
        where = f"{role}/{file}: {task.get('name')}"
        assert task.get("name"), where
        assert "ignore_errors" not in task, where
        assert not [key for key in task if key in {"copy", "template", "apt", "command", "shell", "file", "debug"}], (
            where
        )


@pytest.mark.parametrize("role", NAMES)
def test_the_tags_of_a_role(role: str) -> None:
    used: set[str] = set()
    for _dummy, task in all_tasks(role):
        tags = task.get("tags", [])
        used |= {tags} if isinstance(tags, str) else set(tags)
    assert role in used
    assert [tag for tag in used if tag != role and not tag.startswith(f"{role}_")] == []


@pytest.mark.parametrize("role", NAMES)
def test_no_variable_of_a_task_has_the_name_of_a_result(role: str) -> None:
    """Ansible would take the result, which is stronger, and say nothing."""
    tasks = [task for _file, task in all_tasks(role)]
    results = {str(task["register"]) for task in tasks if "register" in task}
    for task in tasks:
        results |= (task.get("ansible.builtin.set_fact") or {}).keys()
    assert results.isdisjoint({name for task in tasks for name in task.get("vars", {})})

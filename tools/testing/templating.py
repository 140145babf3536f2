"""Renders variables and templates of the collection's roles as Ansible does, without a play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "collections/ansible_collections/linkrift/platform/roles"

_ready: list[bool] = []


def load(path: Path) -> dict[str, Any]:
    """Return the variables of a file, as templates that are still to be rendered."""
    return dict(DataLoader().load_from_file(str(path), trusted_as_template=True) or {})


def role_variables(role: str, **more: Any) -> dict[str, Any]:
    """Return a role's defaults and variables, with others on top."""
    return {**load(ROLES / role / "defaults/main.yml"), **load(ROLES / role / "vars/main.yml"), **more}


def render(text: str, variables: dict[str, Any]) -> Any:
    """Return what a template makes of variables.

    Raises:
        ansible.errors.AnsibleError: a variable is missing, or a template is wrong.
    """
    if not _ready:
        init_plugin_loader([str(ROOT / "collections")])
        _ready.append(True)
    return Templar(DataLoader(), variables=variables).template(trust_as_template(text))


def render_file(role: str, name: str, variables: dict[str, Any]) -> str:
    """Return what a template file of a role makes of variables; lines as in the role's tasks."""
    text = (ROLES / role / "templates" / name).read_text(encoding="utf-8")
    # The task's own way with white space is the opposite of the default for expressions.
    header = "#jinja2: trim_blocks: True\n"
    return str(render(header + text, variables))

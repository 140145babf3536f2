"""Renders variables and templates of the collection's roles as Ansible does, without a play.

A process of its own does it: Ansible finds collections by an import hook, which does not go together with tests that
have imported the collection's Python code as any other.
"""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "collections/ansible_collections/linkrift/platform/roles"


def load(path: Path) -> dict[str, Any]:
    """Return the variables of a file, as templates that are still to be rendered."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})


def role_variables(role: str, **more: Any) -> dict[str, Any]:
    """Return a role's defaults and variables, with others on top."""
    return {**load(ROLES / role / "defaults/main.yml"), **load(ROLES / role / "vars/main.yml"), **more}


def render(text: str, variables: dict[str, Any]) -> Any:
    """Return what a template makes of variables, which may be templates themselves.

    Raises:
        RuntimeError: a variable is missing, or a template is wrong.
    """
    answer, error = _renderer().submit(_render, text, variables).result()
    if error:
        raise RuntimeError(error)
    return answer


def render_file(role: str, name: str, variables: dict[str, Any]) -> str:
    """Return what a template file of a role makes of variables."""
    return str(render((ROLES / role / "templates" / name).read_text(encoding="utf-8"), variables))


@functools.cache
def _renderer() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@functools.cache
def _prepare() -> None:
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([str(ROOT / "collections")])


def _render(text: str, variables: dict[str, Any]) -> tuple[Any, str]:
    """Render in this process; returns the answer, or what is wrong."""
    _prepare()
    from ansible.errors import AnsibleError
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar, trust_as_template

    def trusted(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: trusted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [trusted(item) for item in value]
        return trust_as_template(value) if isinstance(value, str) else value

    try:
        answer = Templar(DataLoader(), variables=trusted(variables)).template(trust_as_template(text))
    except AnsibleError as error:
        return None, str(error)
    return _plain(answer), ""


def _plain(value: Any) -> Any:
    """Return a value without what Ansible attaches to it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return next((kind(value) for kind in (int, float, str) if isinstance(value, kind)), str(value))

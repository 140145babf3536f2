# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Action: look at hosts and balancers side by side, in one task. Its documentation is that of module rollout_look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

ARGUMENTS: dict[str, Any] = {
    "services": {"type": "list", "elements": "str", "default": []},
    "balancer": {"type": "bool", "default": False},
    "schema": {"type": "dict", "default": {}},
    "settle": {"type": "float", "default": 0},
}


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible ships no types.
    """Runs what a host is to be looked at with."""

    def run(self, tmp: None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what each of them found; the first one that fails is the answer."""
        super().run(tmp, task_vars)
        _validation, wish = self.validate_argument_spec(ARGUMENTS)
        known = dict(task_vars or {})
        result: dict[str, Any] = {"changed": False, "looked": True}
        for name, module, arguments in looks(wish):
            found = self._look(module, arguments, known)
            if found.get("failed"):
                return found
            result[name] = found
        if wish["schema"]:
            # On the interpreter that has the driver. What goes wrong is for who asked to judge.
            arguments = {name: value for name, value in wish["schema"].items() if name != "python"}
            known["ansible_python_interpreter"] = wish["schema"]["python"]
            result["schema"] = self._look("pg_info", arguments, known)
        if result.keys() == {"changed", "looked"}:
            found = self._look("", {}, known)
            return found if found.get("failed") else result
        return result

    def _look(self, module: str, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        name = f"linkrift.platform.{module}" if module else "ansible.builtin.ping"
        found: dict[str, Any] = self._execute_module(module_name=name, module_args=dict(arguments), task_vars=known)
        found.pop("invocation", None)
        return found


def looks(wish: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return what is to be done for a wish: the answer's name, the module and its arguments."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    if wish["services"]:
        found.append(("slots", "release_info", {"services": wish["services"], "settle": wish["settle"]}))
    if wish["balancer"]:
        found.append(("rotation", "rotation_info", {"fleet_record": True, "settle": wish["settle"]}))
    return found

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How a module whose work is an operation answers Ansible: the same wherever the work was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ansible_collections.linkrift.platform.plugins.module_utils._operation import Done, Operation, Operations
from ansible_collections.linkrift.platform.plugins.module_utils._operation_file import WorkError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def answer(module: AnsibleModule, operation: Operation, foresee: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
    """Have the work done, or in check mode foreseen, and end the module."""
    try:
        done = Done(foresee(operation.request)) if module.check_mode else Operations().carry_out(operation)
    except WorkError as error:
        module.fail_json(msg=str(error), **error.details)
    for warning in [*done.result.pop("warnings", []), *done.notes]:
        module.warn(warning)
    module.exit_json(**done.result)

"""Lets pytest import what Ansible's modules for the lab share."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

_SHARED = Path(__file__).resolve().parents[2] / "molecule/shared/plugins/module_utils"
ansible.module_utils.__path__.append(str(_SHARED))

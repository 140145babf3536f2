# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Filter: what a bundle on the control node says about itself."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bundle_manifest
short_description: Read what a bundle on the control node says about itself
version_added: 0.1.0
author: Linkrift Platform Team (@linkrift)
description:
  - Reads the manifest of a packed bundle, and makes sure that it belongs to the release that the file is named for. The
    rest of the bundle is checked where it is published and installed.
options:
  _input:
    description: Path of the bundle, C(linkrift-<release id>.tar.gz).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show which schema it needs
  ansible.builtin.debug:
    msg: "{{ ('dist/linkrift-1.4.0+3f9c2a71b0de.tar.gz' | linkrift.platform.bundle_manifest).manifest.schema_level }}"
"""

RETURN = r"""
_value:
  description: C(id), C(manifest) (a dictionary, empty where it cannot be read), C(error) (why; empty where it can).
  type: dict
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    SUMS,
    BundleError,
    check_identity,
    check_manifest,
)


def bundle_manifest(path: str) -> dict[str, Any]:
    """Return what a bundle says about itself, or why nobody knows."""
    # Ansible loads every filter wherever it needs one of them: what reads bundles brings half of the standard library.
    from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import open_source

    release = Path(path).name.removeprefix("linkrift-").removesuffix(".tar.gz")
    try:
        source = open_source(path, release, None, 0)
        content = source.text(MANIFEST)
        check_manifest(release, content, check_identity(release, source.text(SUMS)))
    except (BundleError, OSError) as error:
        return {"id": release, "manifest": {}, "error": f"{path}: {error}"}
    return {"id": release, "manifest": json.loads(content), "error": ""}


class FilterModule:
    """Offers the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"bundle_manifest": bundle_manifest}

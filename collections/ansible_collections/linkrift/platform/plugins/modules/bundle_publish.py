#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put a release bundle into the bundle store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_publish
short_description: Put a release bundle into the bundle store
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Unpacks a bundle into the directory that the bundle store serves, verifies every file of it, and only then lets it
    appear under its id. Keeps the list C(index.json) and removes old bundles.
  - A bundle that is there already is read as a whole; one that was altered or is incomplete is replaced.
  - Runs on the host of the bundle store. The role P(linkrift.platform.bundle_store#role) copies the archive there.
attributes:
  check_mode:
    description: Tells what would change without reading the archive.
    support: full
  diff_mode:
    description: Shows the bundles in the store before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  id:
    description: Release id of the bundle, such as V(1.4.0+3f9c2a71b0de).
    type: str
    required: true
  archive:
    description:
      - Path of the packed bundle on the host. It is read only when the store does not have the bundle yet.
      - Without it, RV(published) tells whether the store has the bundle. When it has, the list is kept and old bundles
        are removed as usual; when it has not, nothing is changed.
    type: path
  path:
    description: Directory that the bundle store serves.
    type: path
    default: /srv/linkrift/bundles
  keep:
    description: How many bundles to keep, the ones published last. The bundle O(id) is one of them.
    type: int
    default: 5
  protect:
    description: Release ids to keep in any case, such as the ones that are live somewhere.
    type: list
    elements: str
    default: []
  lock_timeout:
    description: Seconds to wait for another run that publishes.
    type: int
    default: 300
seealso:
  - module: linkrift.platform.release
"""

EXAMPLES = r"""
- name: Publish a bundle that was copied to the bundle store
  linkrift.platform.bundle_publish:
    id: 1.4.0+3f9c2a71b0de
    archive: /var/tmp/linkrift-1.4.0+3f9c2a71b0de.tar.gz

- name: Ask whether the bundle store has a bundle
  linkrift.platform.bundle_publish:
    id: 1.4.0+3f9c2a71b0de
  register: found
"""

RETURN = r"""
published:
  description: Whether the store has the bundle, whole. In check mode, whether it had it before.
  returned: always
  type: bool
reason:
  description: Why the bundle had to be put there; empty when it was there.
  returned: always
  type: str
path:
  description: Directory of the bundle.
  returned: always
  type: str
  sample: /srv/linkrift/bundles/1.4.0+3f9c2a71b0de
bundles:
  description: Release ids in the store, sorted.
  returned: always
  type: list
  elements: str
pruned:
  description: Release ids of the bundles that were removed, or would be.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_store import Store


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "id": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "path": {"type": "path", "default": "/srv/linkrift/bundles"},
            "keep": {"type": "int", "default": 5},
            "protect": {"type": "list", "elements": "str", "default": []},
            "lock_timeout": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    wish = module.params
    store = Store(Path(wish["path"]), wish["keep"], tuple(wish["protect"]), wish["lock_timeout"])
    try:
        archive = Path(wish["archive"]) if wish["archive"] else None
        result = store.publish(wish["id"], archive, check=module.check_mode)
    except (BundleError, TimeoutError, ValueError, OSError) as error:
        module.fail_json(msg=str(error), id=wish["id"])
    module.exit_json(
        changed=result.changed,
        published=result.published,
        reason=result.reason,
        path=str(result.path),
        bundles=result.after,
        pruned=result.pruned,
        diff={"before": {"bundles": result.before}, "after": {"bundles": result.after}},
    )


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install a release from a bundle, remove one, or remove what nobody needs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release
short_description: Install and remove releases of the Linkrift services on a host
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Installs a release from its bundle to C(/opt/linkrift/releases/<id>), into a virtual environment of its own, and
    removes the releases that nobody needs any more.
  - Fetches only the part of the bundle for the host's Python and architecture. Every file is compared with SHA256SUMS,
    and SHA256SUMS with the id; an incomplete or altered bundle is refused.
  - Nothing is downloaded from anywhere else, and nothing is compiled. The host needs C(python3) and nothing more.
  - A release that is there already is left as it is, without asking the source.
  - Starts and stops nothing; that is done by M(linkrift.platform.slot).
attributes:
  check_mode:
    description: Tells what would change without asking the source. What is in the bundle is unknown until then.
    support: full
  diff_mode:
    description: Shows the releases on the host before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  state:
    description:
      - V(present) installs the release O(id), then removes what O(keep) does not cover.
      - V(absent) removes the release O(id); it is an error when it is in use.
      - V(pruned) only removes what O(keep) does not cover.
    type: str
    choices: [present, absent, pruned]
    default: present
  id:
    description: Release id, such as V(1.4.0+3f9c2a71b0de). Required unless O(state=pruned).
    type: str
  source:
    description:
      - Where the bundle is. The address of the bundle store (V(https://…), the directory that holds one directory for
        each release), or a path on the host, of an archive, of an unpacked bundle or of a directory of such.
      - Required with O(state=present).
    type: str
  ca_path:
    description: File on the host with the certificates to trust for the bundle store; by default those of the system.
    type: path
  digest:
    description:
      - Full SHA-256 of the bundle's SHA256SUMS. The id holds its first 12 digits, which protects from mistakes;
        the full one protects from a bundle made to fit.
    type: str
  keep:
    description:
      - How many good releases to keep. Good are those that were live on this host, by its ledgers; the ones that
        became live last are kept.
      - Kept besides them are the release O(id), and whatever a slot, a C(current) link or a process uses.
    type: int
    default: 3
  verify:
    description:
      - Read every file of a release that is there already. When one is altered, missing or extra, the release is
        installed again, unless a process uses it, which is an error.
    type: bool
    default: false
  python:
    description: Interpreter on the host that the release is installed for.
    type: path
    default: /usr/bin/python3
  timeout:
    description: Seconds that everything fetched from the bundle store may take together.
    type: int
    default: 300
  lock_timeout:
    description: Seconds to wait for another run that installs or removes releases on the host.
    type: int
    default: 300
seealso:
  - module: linkrift.platform.release_info
  - module: linkrift.platform.bundle_publish
  - module: linkrift.platform.slot
"""

EXAMPLES = r"""
- name: Install a release from the bundle store
  linkrift.platform.release:
    id: "{{ linkrift_release }}"
    source: https://bundles.linkrift.internal:8443
    ca_path: /etc/linkrift/tls/ca.pem

- name: Install a release from an archive that was copied to the host
  linkrift.platform.release:
    id: 1.4.0+3f9c2a71b0de
    source: /var/tmp/linkrift-1.4.0+3f9c2a71b0de.tar.gz

- name: Make sure that no file of a release was altered
  linkrift.platform.release:
    id: "{{ linkrift_release }}"
    source: https://bundles.linkrift.internal:8443
    ca_path: /etc/linkrift/tls/ca.pem
    verify: true

- name: Remove all releases but the two that were live last
  linkrift.platform.release:
    state: pruned
    keep: 2
"""

RETURN = r"""
id:
  description: The release.
  returned: when O(state) is V(present) or V(absent)
  type: str
  sample: 1.4.0+3f9c2a71b0de
path:
  description: Its directory.
  returned: when O(state) is V(present) or V(absent)
  type: str
  sample: /opt/linkrift/releases/1.4.0+3f9c2a71b0de
record:
  description:
    - What the installed release says about itself (C(release.json)).
    - V(null) when it is not installed, so also in check mode before the first installation.
  returned: when O(state=present)
  type: dict
  contains:
    version:
      description: Version of the application.
      type: str
    commit:
      description: Commit it was built from.
      type: str
    branch:
      description: Branch of that commit.
      type: str
    commit_time:
      description: Time of that commit.
      type: str
    dirty:
      description: Whether there were changes that are in no commit.
      type: bool
    schema_level:
      description: Number of the last migration it brings and needs.
      type: int
    schema_floor:
      description: Oldest schema level whose releases go on working once all its migrations are applied.
      type: int
    installed_at:
      description: Time of the installation.
      type: str
    python:
      description: Version of the Python it was installed for.
      type: str
    target:
      description: Part of the bundle that was installed.
      type: str
schema_level:
  description: Number of the last migration that the release brings and needs; V(null) when not installed.
  returned: when O(state=present)
  type: int
fetched:
  description: Files that were taken from the source. Those that an interrupted run had left are not among them.
  returned: when O(state=present)
  type: list
  elements: str
reason:
  description: Why the release was installed, or would be; empty when it was there.
  returned: when O(state=present)
  type: list
  elements: str
pruned:
  description: Releases that were removed, or would be.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from ansible_collections.linkrift.platform.plugins.module_utils._release_run import Wish, run


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent", "pruned"], "default": "present"},
            "id": {"type": "str"},
            "source": {"type": "str"},
            "ca_path": {"type": "path"},
            "digest": {"type": "str"},
            "keep": {"type": "int", "default": 3},
            "verify": {"type": "bool", "default": False},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "timeout": {"type": "int", "default": 300},
            "lock_timeout": {"type": "int", "default": 300},
        },
        required_if=[("state", "present", ("id", "source")), ("state", "absent", ("id",))],
        supports_check_mode=True,
    )
    parameters: dict[str, Any] = dict(module.params)
    try:
        outcome = run(Wish.of(parameters), check=module.check_mode)
    except (BundleError, TimeoutError, ValueError) as error:
        module.fail_json(msg=str(error), id=parameters["id"])
    except OSError as error:
        msg = f"{error}. Correct that, and repeat this: what came is kept"
        module.fail_json(msg=msg, id=parameters["id"])
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**outcome.result())


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say to HAProxy which networks are Cloudflare's, without a reload."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudflare_allowlist
short_description: Say to HAProxy which networks are Cloudflare's, without a reload
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Writes the file of networks that HAProxy's configuration loads, and puts the same networks into the running HAProxy,
    all at once. What is connected stays connected.
  - A list that is newer than the one given stays, so that an old inventory does not undo a refresh.
  - Refused are an empty list, things that are no networks, networks that are too large, and a list that would lose more
    than half of its addresses.
options:
  networks:
    description: The networks, IPv4 and IPv6, each at least one.
    type: list
    elements: str
    required: true
  as_of:
    description: Day, or time, as of which they are; UTC.
    type: str
    required: true
  source:
    description: Where they come from, for whoever reads the file.
    type: str
    default: shipped with the platform
  force:
    description: Take a list that is much smaller than the one on the host, or older.
    type: bool
    default: false
  max_age:
    description: Days after which the list counts as stale, which is a warning.
    type: int
    default: 30
  path:
    description: The file.
    type: path
    default: /etc/haproxy/cloudflare.lst
  metrics_path:
    description: File for Prometheus' textfile collector with the list's age. Its directory is made when it is missing.
    type: path
    default: /var/lib/prometheus/node-exporter/linkrift_allowlist.prom
  admin_socket:
    description: Socket for commands to the worker.
    type: path
    default: /run/haproxy/admin.sock
  unit:
    description: Unit that is reloaded when HAProxy does not take the list otherwise.
    type: str
    default: haproxy.service
  lock_path:
    description: Lock that is held meanwhile; the one of M(linkrift.platform.rotation), which may reload, too.
    type: path
    default: /run/linkrift-rotation.lock
  lock_timeout:
    description: Seconds to wait for another run.
    type: float
    default: 120
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
  idempotent:
    description: A second run with the same networks and time changes nothing.
    support: full
seealso:
  - module: linkrift.platform.cloudflare_networks_info
"""

EXAMPLES = r"""
- name: Take over what was fetched
  linkrift.platform.cloudflare_allowlist:
    networks: "{{ fetched.networks }}"
    as_of: "{{ fetched.as_of }}"
    source: "{{ fetched.source }}"
"""

RETURN = r"""
as_of:
  description: As of when the list on the host is now; UTC.
  returned: success
  type: str
  sample: "2026-01-31T12:00:00Z"
age_days:
  description: How old it is.
  returned: success
  type: float
  sample: 0.1
stale:
  description: It is older than O(max_age).
  returned: success
  type: bool
  sample: false
kept_newer:
  description: The list on the host was newer than the one given, and stays.
  returned: success
  type: bool
  sample: false
how:
  description: V(runtime), V(reload), or empty where HAProxy had it or has not loaded this file yet.
  returned: success
  type: str
  sample: runtime
networks:
  description: The networks that are believed now.
  returned: success
  type: list
  elements: str
added:
  description: Networks that were not in the file.
  returned: success
  type: list
  elements: str
removed:
  description: Networks that are no longer in the file.
  returned: success
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._allowlist import (
    Allowlist,
    AllowlistError,
    Refresh,
    check_networks,
    metrics,
    read_time,
)
from ansible_collections.linkrift.platform.plugins.module_utils._certificates import (
    CertificateError,
    iso,
    now_utc,
)
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import Haproxy, HaproxyError, Socket
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy_certificate import reload_with
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive, write_atomically


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "networks": {"type": "list", "elements": "str", "required": True},
            "as_of": {"type": "str", "required": True},
            "source": {"type": "str", "default": "shipped with the platform"},
            "force": {"type": "bool", "default": False},
            "max_age": {"type": "int", "default": 30},
            "path": {"type": "path", "default": "/etc/haproxy/cloudflare.lst"},
            "metrics_path": {
                "type": "path",
                "default": "/var/lib/prometheus/node-exporter/linkrift_allowlist.prom",
            },
            "admin_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "unit": {"type": "str", "default": "haproxy.service"},
            "lock_path": {"type": "path", "default": "/run/linkrift-rotation.lock"},
            "lock_timeout": {"type": "float", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = _run(module)
    except (AllowlistError, HaproxyError, CertificateError, OSError) as error:
        module.fail_json(msg=f"{module.params['path']}: {error}")
    module.exit_json(**result)


def _run(module: AnsibleModule) -> dict[str, Any]:
    """Do, or in check mode foresee, what the parameters ask for."""
    params = module.params
    given = Allowlist(
        tuple(check_networks(params["networks"])), read_time(params["as_of"]), " ".join(params["source"].split())
    )
    refresh = Refresh(
        path=Path(params["path"]),
        haproxy=Haproxy(Socket(params["admin_socket"]), None),
        reload=reload_with("systemctl", "reload", "--", params["unit"]),
        force=params["force"],
    )
    if module.check_mode:
        outcome = refresh.plan(given)
        written = _metrics_differ(Path(params["metrics_path"]), outcome.after)
    else:
        with exclusive(Path(params["lock_path"]), params["lock_timeout"]):
            outcome = refresh.apply(given)
        written = _write_metrics(Path(params["metrics_path"]), outcome.after)
    age = outcome.after.age_days(now_utc())
    if age > params["max_age"]:
        module.warn(
            f"the list of Cloudflare's networks is {age:.0f} days old: run playbooks/allowlist.yml"
            f" (more than {params['max_age']} days is a warning)"
        )
    return {
        "changed": outcome.changed or written,
        "as_of": iso(outcome.after.as_of),
        "age_days": round(age, 1),
        "stale": age > params["max_age"],
        "kept_newer": outcome.kept_newer,
        "how": outcome.how,
        "networks": list(outcome.after.networks),
        "added": outcome.added,
        "removed": outcome.removed,
        "diff": {
            "before_header": params["path"],
            "after_header": params["path"],
            "before": outcome.before,
            "after": outcome.after.text,
        },
    }


def _metrics_differ(path: Path, allowlist: Allowlist) -> bool:
    return not path.is_file() or path.read_text(encoding="utf-8") != metrics(allowlist)


def _write_metrics(path: Path, allowlist: Allowlist) -> bool:
    """Write the metrics; tell whether that changed anything."""
    if not _metrics_differ(path, allowlist):
        return False
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(path, metrics(allowlist), 0o644)
    return True


if __name__ == "__main__":
    main()

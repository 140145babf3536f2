#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Fetch the networks that Cloudflare says are its own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudflare_networks_info
short_description: Fetch the networks that Cloudflare says are its own
version_added: 0.2.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Fetches lists of networks and looks at them. Only networks, one a line; IPv4 and IPv6, each at least one; no network
    shorter than /8 or /16, and not too much in all; at most 64 KiB and 1,000 networks. Anything else is a failure.
  - Changes nothing; M(linkrift.platform.cloudflare_allowlist) does.
options:
  urls:
    description: Where the lists are.
    type: list
    elements: str
    default: [https://www.cloudflare.com/ips-v4, https://www.cloudflare.com/ips-v6]
  ca_path:
    description: File with the authorities that are trusted instead of the host's own.
    type: path
  timeout:
    description: Seconds that each may take.
    type: int
    default: 15
attributes:
  check_mode:
    description: Does the same.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing.
    support: full
seealso:
  - module: linkrift.platform.cloudflare_allowlist
"""

EXAMPLES = r"""
- name: Fetch the lists on the control node
  linkrift.platform.cloudflare_networks_info:
  delegate_to: localhost
  become: false
  run_once: true
  register: fetched
"""

RETURN = r"""
networks:
  description: The networks, IPv4 first, each once.
  returned: success
  type: list
  elements: str
  sample: [173.245.48.0/20, "2400:cb00::/32"]
as_of:
  description: When they were fetched; UTC.
  returned: success
  type: str
  sample: "2026-01-31T12:00:00Z"
source:
  description: From where.
  returned: success
  type: str
  sample: https://www.cloudflare.com/ips-v4 https://www.cloudflare.com/ips-v6
"""

from http.client import HTTPException

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ansible_collections.linkrift.platform.plugins.module_utils._allowlist import (
    MAX_BYTES,
    AllowlistError,
    check_networks,
    lines_of,
)
from ansible_collections.linkrift.platform.plugins.module_utils._certificates import iso, now_utc


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "urls": {
                "type": "list",
                "elements": "str",
                "default": ["https://www.cloudflare.com/ips-v4", "https://www.cloudflare.com/ips-v6"],
            },
            "ca_path": {"type": "path"},
            "timeout": {"type": "int", "default": 15},
        },
        supports_check_mode=True,
    )
    lines: list[str] = []
    url = ""
    try:
        for url in module.params["urls"]:
            lines += lines_of(_fetch(url, module.params["timeout"], module.params["ca_path"]))
    # What a fetch can raise: urllib's and ssl's errors are of OSError, http.client's wrong answers are not.
    except (AllowlistError, OSError, HTTPException, ValueError) as error:
        module.fail_json(msg=f"{url}: {error}")
    try:
        networks = check_networks(lines)
    except AllowlistError as error:
        module.fail_json(msg=f"{' '.join(module.params['urls'])}: {error}")
    module.exit_json(changed=False, networks=networks, as_of=iso(now_utc()), source=" ".join(module.params["urls"]))


def _fetch(url: str, timeout: int, ca_path: str | None) -> str:
    """Fetch a text, of which no more is read than such a list may have."""
    with open_url(
        url, timeout=timeout, ca_path=ca_path, follow_redirects="safe", http_agent="linkrift-platform"
    ) as answer:
        return str(answer.read(MAX_BYTES + 1).decode("ascii"))


if __name__ == "__main__":
    main()

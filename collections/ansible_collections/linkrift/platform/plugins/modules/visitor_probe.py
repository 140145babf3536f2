#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a balancer what visitors ask it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: visitor_probe
short_description: Ask a balancer what visitors ask it
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Runs on a balancer, and asks HAProxy there by TLS, under the names that visitors use, for the canary's link and for
    the API's description. So each balancer is asked for itself, whoever has an address that they share.
  - The certificate must be for the name, be valid now, and lead to an authority that is believed. Fails when an answer
    is not the right one.
  - What gets no answer at all is asked again until 10 seconds after the first silence, as while HAProxy is restarted.
    A certificate that is not believed is an answer.
attributes:
  check_mode:
    description: Changes nothing anyway.
    support: full
  diff_mode:
    description: Changes nothing.
    support: N/A
  idempotent:
    description: Changes nothing.
    support: full
options:
  hosts:
    description: The names that visitors use, and the services behind them, as role C(linkrift.platform.haproxy) has it.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name.
        type: str
        required: true
      service:
        description: Its service. Names of other services than C(api) and C(redirect) are left out.
        type: str
        required: true
  addresses:
    description:
      - Where HAProxy listens. One that is another host's, such as a shared address that another balancer has at the
        moment, is left out.
    type: list
    elements: str
    required: true
  port:
    description: Where it listens for TLS.
    type: int
    default: 443
  authorities:
    description:
      - Files with certificates to believe, in PEM form, besides the system's authorities. One that is not there is left
        out. A file may hold the balancer's own certificate, for one that only somebody else can check, such as
        Cloudflare its origin certificates.
    type: list
    elements: path
    default: [/etc/linkrift/tls/ca.pem]
  requests:
    description:
      - How often each name is asked at each address, on connections of their own, so that several servers answer.
    type: int
    default: 4
  releases:
    description: Which releases may answer, by service. A service that is not named may be of any.
    type: dict
    default: {}
  timeout:
    description: Seconds for each answer.
    type: float
    default: 5
"""

EXAMPLES = r"""
- name: Ask the balancer as a visitor would
  linkrift.platform.visitor_probe:
    hosts:
      - {name: go.example.com, service: redirect}
      - {name: api.example.com, service: api}
    addresses: [192.0.2.10]
    releases:
      redirect: [1.4.0+3f9c2a71b0de]
"""

RETURN = r"""
sites:
  description: What each name answered. C(certificate_days) is V(null) where no certificate was shown that is believed.
  returned: always
  type: list
  elements: dict
  sample:
    - name: go.example.com
      service: redirect
      asked: 4
      failed: 0
      releases: {1.4.0+3f9c2a71b0de: 4}
      slowest_ms: 12.5
      certificate_days: 61
addresses:
  description: Where it was asked.
  returned: always
  type: list
  elements: str
  sample: [192.0.2.10]
problems:
  description: What was wrong, in words; empty when all is well.
  returned: always
  type: list
  elements: str
  sample: []
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _visitor_probe as visitors

_SERVICES = ("api", "redirect")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hosts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "service": {"type": "str", "required": True},
                },
            },
            "addresses": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "default": 443},
            "authorities": {"type": "list", "elements": "path", "default": ["/etc/linkrift/tls/ca.pem"]},
            "requests": {"type": "int", "default": 4},
            "releases": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    params = module.params
    here = [address for address in params["addresses"] if visitors.is_here(address)]
    found: list[visitors.Found] = []
    try:
        found = ask(params, here)
    except visitors.ProbeError as error:
        module.fail_json(msg=str(error), sites=[], addresses=here, problems=[str(error)])
    problems = [problem for each in found for problem in each.problems]
    if not here:
        problems.append(f"none of the addresses {', '.join(params['addresses']) or '(none)'} is this host's")
    result: dict[str, Any] = {
        "sites": [each.as_dict(time.time()) for each in found],
        "addresses": here,
        "problems": problems,
    }
    if problems:
        module.fail_json(msg=f"visitors do not get what they should: {'; '.join(problems)}", **result)
    module.exit_json(changed=False, msg=visitors.description(found), **result)


def ask(params: dict[str, Any], addresses: list[str]) -> list[visitors.Found]:
    """Ask what the parameters name.

    Raises:
        ProbeError: what to believe cannot be read.
    """
    context = visitors.trust(params["authorities"])

    def send(address: str, site: visitors.Site) -> visitors.Exchange:
        return visitors.exchange(address, params["port"], site, context, params["timeout"])

    return visitors.probe(
        [visitors.Site(each["name"], each["service"]) for each in params["hosts"] if each["service"] in _SERVICES],
        addresses,
        max(params["requests"], 1),
        {service: list(allowed) for service, allowed in params["releases"].items()},
        visitors.patient(send),
    )


if __name__ == "__main__":
    main()

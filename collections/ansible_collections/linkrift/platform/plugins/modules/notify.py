#!/usr/bin/python
# Copyright (c) Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell people of a rollout by webhooks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: notify
short_description: Tell people of a rollout by webhooks
version_added: 0.3.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Sends a message as Slack, Mattermost and Rocket.Chat understand it to all webhooks at once.
  - A webhook that does not answer, or not well, is a warning and no failure. Nothing is waited for longer than
    O(deadline), names that are not resolved included. Proxies are taken from the environment, redirects not followed.
options:
  event:
    description: What happened.
    type: str
    choices: [start, success, failure]
    required: true
  about:
    description:
      - The rollout, as P(linkrift.platform.rollout_report#filter) returns it, or the part of that which is known. Used
        are C(id), C(purpose), C(by), C(releases), C(hosts), C(seconds), C(result) and C(visitors).
      - Also C(why) it failed or was refused (then its C(result) is V(refused)), a list of hosts that were C(left_out),
        and where its C(report) is.
    type: dict
    default: {}
  where:
    description: Name of the installation, in front of the message.
    type: str
    default: ""
  webhooks:
    description: Who is told.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: Address. Whoever knows it can send messages, so it is in no output.
        type: str
        required: true
      events:
        description: Events that are sent there.
        type: list
        elements: str
        choices: [start, success, failure]
        default: [start, success, failure]
  deadline:
    description: Seconds for all of them.
    type: float
    default: 5
  ca_path:
    description: Certificates to trust instead of the system's.
    type: path
attributes:
  check_mode:
    description: Sends nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: Changes nothing on the host; a second run sends the message again.
    support: partial
"""

EXAMPLES = r"""
- name: Tell the channel
  linkrift.platform.notify:
    event: success
    about: "{{ report }}"
    webhooks:
      - url: "{{ vault_slack_webhook }}"
      - {url: "{{ vault_pager_webhook }}", events: [failure]}
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
told:
  description: Who was told, and why somebody was not. In check mode nobody is.
  returned: success
  type: list
  elements: dict
  sample: [{to: hooks.slack.com, why: ""}]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils import _notification as notification


def main() -> None:
    """Run the module."""
    events = list(notification.EVENTS)
    module = AnsibleModule(
        argument_spec={
            "event": {"type": "str", "choices": events, "required": True},
            "about": {"type": "dict", "default": {}},
            "where": {"type": "str", "default": ""},
            "webhooks": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "url": {"type": "str", "required": True, "no_log": True},
                    "events": {"type": "list", "elements": "str", "choices": events, "default": events},
                },
            },
            "deadline": {"type": "float", "default": 5},
            "ca_path": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    event = params["event"]
    webhooks = [notification.Webhook(entry["url"]) for entry in params["webhooks"] if event in entry["events"]]
    if module.check_mode or not webhooks:
        module.exit_json(changed=False, told=[])
    message = notification.compose(event, params["about"], params["where"])
    outcomes = notification.send_all(webhooks, message, params["deadline"], params["ca_path"])
    for webhook, why in zip(webhooks, outcomes, strict=True):
        if why:
            module.warn(f"{webhook.host} was not told of this {event}: {why}. Nothing else is the matter")
    module.exit_json(
        changed=False,
        told=[{"to": webhook.host, "why": why} for webhook, why in zip(webhooks, outcomes, strict=True)],
    )


if __name__ == "__main__":
    main()

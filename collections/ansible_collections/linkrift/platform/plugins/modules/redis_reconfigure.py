#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make a running Redis use what its files say, without a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_reconfigure
short_description: Make a running Redis use what its files say, without a restart
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Compares a running Redis with its configuration file and its ACL file, and tells it what differs. Nobody is
    disconnected.
  - A renewed certificate under the old name is noticed, and read.
  - Names the settings that wait for a restart; restarting is the caller's business. What Redis refuses is an error, as
    it would not start with it.
attributes:
  check_mode:
    description: Says what would change, and what might.
    support: full
  diff_mode:
    description: Shows the settings before and after. Users' rules are not shown.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
options:
  config:
    description:
      - Redis's configuration file.
    type: path
    default: /etc/redis/redis.conf
  users:
    description:
      - Its ACL file.
    type: path
    default: /etc/redis/users.acl
  socket:
    description:
      - The Unix socket it listens on.
    type: path
    default: /run/redis/redis-server.sock
  user:
    description:
      - Who may change settings and users.
    type: str
    required: true
  passwords:
    description:
      - Passwords of O(user); the first one that is taken serves.
    type: list
    elements: str
    required: true
  password_file:
    description:
      - A file with one more password of O(user), the one that was good before. It need not be there.
    type: path
"""

EXAMPLES = r"""
- name: Use the files
  linkrift.platform.redis_reconfigure:
    user: linkrift_admin
    passwords: ["{{ redis_admin_password }}"]
    password_file: /root/.linkrift-redis-admin
  register: redis_running
"""

RETURN = r"""
settings:
  description: Settings that were changed, each with its value before and after.
  returned: success
  type: dict
  sample: {"maxmemory": ["268435456", "536870912"]}
users:
  description: Users that were made, changed or deleted.
  returned: success
  type: list
  elements: str
certificate:
  description: Whether the certificate was read anew.
  returned: success
  type: bool
restart:
  description:
    - What waits for a restart, settings by name. The whole configuration, if the server cannot be asked since it still
      runs on another one, and in a dry run before there are files.
  returned: success
  type: list
  elements: str
  sample: ["unixsocket"]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.linkrift.platform.plugins.module_utils._redis import (
    Outcome,
    RedisAwayError,
    RedisError,
    apply_certificate,
    apply_settings,
    apply_users,
    connect,
    parse_settings,
    parse_users,
)


def reconfigure(module: AnsibleModule, outcome: Outcome) -> None:
    """Compare and tell."""
    params = module.params
    settings = parse_settings(Path(params["config"]).read_text(encoding="utf-8"))
    users = parse_users(Path(params["users"]).read_text(encoding="utf-8"))
    passwords = list(params["passwords"])
    if params["password_file"] and Path(params["password_file"]).exists():
        passwords.append(Path(params["password_file"]).read_text(encoding="utf-8").strip())
    connection = connect(params["socket"], params["user"], passwords)
    try:
        apply_settings(connection, settings, outcome, dry=module.check_mode)
        apply_users(connection, users, outcome, dry=module.check_mode)
        apply_certificate(connection, settings, outcome, dry=module.check_mode)
    finally:
        connection.close()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "config": {"type": "path", "default": "/etc/redis/redis.conf"},
            "users": {"type": "path", "default": "/etc/redis/users.acl"},
            "socket": {"type": "path", "default": "/run/redis/redis-server.sock"},
            "user": {"type": "str", "required": True},
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "password_file": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    outcome = Outcome()
    try:
        reconfigure(module, outcome)
    except RedisAwayError as error:
        outcome.restart = [f"the whole configuration ({error})"]
    except (RedisError, OSError, ValueError) as error:
        # A dry run of the role, which would have written the file.
        if module.check_mode and isinstance(error, FileNotFoundError):
            module.exit_json(
                changed=False,
                settings={},
                users=[],
                certificate=False,
                restart=[f"the whole configuration ({error.filename} is not there yet)"],
            )
        module.fail_json(msg=f"Redis could not be brought to what its files say: {error}")
    module.exit_json(
        changed=outcome.changed,
        settings=outcome.settings,
        users=outcome.users,
        certificate=outcome.certificate,
        restart=outcome.restart,
        diff={
            "before": "".join(f"{name} {before}\n" for name, (before, _after) in sorted(outcome.settings.items())),
            "after": "".join(f"{name} {after}\n" for name, (_before, after) in sorted(outcome.settings.items())),
        },
    )


if __name__ == "__main__":
    main()

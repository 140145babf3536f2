#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what a PostgreSQL server says about its schema and its connections."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_info
short_description: Tell the schema level of a PostgreSQL database, and how many connections its server takes
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
description:
  - Asks the server, so that it tells what is, whatever its configuration files say. Changes nothing.
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
  python:
    description: An interpreter that has psycopg2, such as that of an installed release.
    type: path
  host:
    description: Name or address of the server.
    type: str
    required: true
  port:
    description: Its port.
    type: int
    default: 5432
  database:
    description: The database.
    type: str
    default: linkrift
  user:
    description: The role that owns the schema.
    type: str
    default: linkrift_owner
  password:
    description: Its password.
    type: str
    required: true
  sslmode:
    description: As libpq has it.
    type: str
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
    default: verify-full
  sslrootcert:
    description: Certificates to trust, a file on the host.
    type: path
seealso:
  - module: linkrift.platform.pg_migrate
"""

EXAMPLES = r"""
- name: Ask PostgreSQL
  linkrift.platform.pg_info:
    python: /opt/linkrift/api/current/venv/bin/python
    host: db.linkrift.internal
    password: "{{ linkrift_secrets.postgresql_owner_password }}"
    sslrootcert: /etc/linkrift/tls/ca.pem
  register: postgresql
"""

RETURN = r"""
schema_level:
  description: Number of the last migration; 0 before the first one.
  returned: success
  type: int
  sample: 4
floor:
  description: Oldest schema level whose releases work on it; 0 without a bound.
  returned: success
  type: int
  sample: 0
dirty:
  description: A migration was begun and not finished.
  returned: success
  type: bool
  sample: false
max_connections:
  description: Connections that the server takes at most.
  returned: success
  type: int
  sample: 300
reserved_connections:
  description: Of those, for its superusers only.
  returned: success
  type: int
  sample: 3
in_use:
  description: Connections of each user now, this one left out.
  returned: success
  type: dict
  sample: {linkrift_api: 12, linkrift_redirect: 8}
limits:
  description: Connections at most for a user; users that are not named have no bound of their own.
  returned: success
  type: dict
  sample: {}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import MigrationError
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_postgresql import (
    CONNECTION,
    HAS_PSYCOPG2,
    Settings,
    looking,
    read_state,
    rows_of,
)
from ansible_collections.linkrift.platform.plugins.module_utils._pg_info import floor_of, read_room


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            **CONNECTION,
        },
        supports_check_mode=True,
    )
    python = module.params["python"]
    if python and not has_respawned() and Path(python).is_file():
        respawn_module(python)
    if not HAS_PSYCOPG2:
        module.fail_json(msg=missing_required_lib("psycopg2"))
    try:
        result = look(module.params)
    except MigrationError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


def look(params: dict[str, Any]) -> dict[str, Any]:
    """Ask the server.

    Raises:
        MigrationError: it does not answer as it should.
    """
    names = ("host", "port", "database", "user", "password", "sslmode")
    settings = Settings(**{name: params[name] for name in names}, sslrootcert=params["sslrootcert"] or "")
    with looking(settings) as connection:
        state = read_state(connection)
        room = read_room(lambda query: rows_of(connection, query))
    return {
        "schema_level": state.version,
        "floor": floor_of(state),
        "dirty": state.dirty,
        "max_connections": room.most,
        "reserved_connections": room.reserved,
        "in_use": room.in_use,
        "limits": room.limits,
    }


if __name__ == "__main__":
    main()

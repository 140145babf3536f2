#!/usr/bin/python
# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a PostgreSQL database to the schema level of a release."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_migrate
short_description: Bring a PostgreSQL database to the schema level of a release
description:
  - Applies the C(NNNNNN_name.up.sql) files of a directory that the database has not seen yet, in order, upwards only.
  - The state is golang-migrate's table C(schema_migrations), so that either tool can take over. A table of its own,
    C(linkrift_migrations), keeps each file's checksum, whether it expands or contracts, and since when it is there.
  - "The first comment lines of a file say what it does: C(-- linkrift: expand) leaves older releases working,
    C(-- linkrift: contract oldest=N) only those of schema level N and newer (the I(floor)), and
    C(-- linkrift: no-transaction) marks a single statement that cannot run in a transaction."
  - A migration, its version and its record are one transaction. When it does not get a lock within O(lock_timeout) it
    steps back and is tried again. Only one runner works at a time; the others wait up to O(lock_wait).
  - A run that was killed is no obstacle, except for a statement without transaction that does not build an index; the
    database is then dirty, and the error says what to do.
version_added: 0.1.0
author:
  - Linkrift Platform Team (@linkrift)
requirements:
  - psycopg2 for the interpreter given in O(python)
options:
  migrations:
    description:
      - Directory with the migration files.
    type: path
    required: true
  python:
    description:
      - Python interpreter that has psycopg2, usually that of the release, C(/opt/linkrift/releases/ID/venv/bin/python).
      - Without it the interpreter that Ansible uses must have psycopg2.
    type: path
  host:
    description:
      - Name or address of the server; with O(sslmode=verify-full) as its certificate has it.
    type: str
    required: true
  port:
    description:
      - Port of the server.
    type: int
    default: 5432
  database:
    description:
      - Name of the database.
    type: str
    default: linkrift
  user:
    description:
      - Role that owns the schema.
    type: str
    default: linkrift_owner
  password:
    description:
      - Password of O(user).
    type: str
    required: true
  sslmode:
    description:
      - How the connection is protected, as libpq understands it.
    type: str
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
    default: verify-full
  sslrootcert:
    description:
      - File with the certificate authority that the server's certificate must come from.
    type: path
  target:
    description:
      - Last version to apply. Without it all of them are. A database beyond it is left as it is.
    type: int
  allow_contract:
    description:
      - Apply contract migrations, too. Without it they are refused before anything is applied, unless the database is
        empty.
    type: bool
    default: false
  lock_wait:
    description:
      - Seconds to wait for another migration of the same database to end.
    type: float
    default: 120
  lock_timeout:
    description:
      - Seconds that a statement of a migration may wait for a lock, with everybody's queries queueing up behind it.
    type: float
    default: 5
  lock_attempts:
    description:
      - How often a migration is tried that does not get its locks.
    type: int
    default: 10
  statement_timeout:
    description:
      - Seconds that a statement in a transaction may take.
    type: float
    default: 300
  concurrent_timeout:
    description:
      - Seconds that a statement without a transaction may take, for example building an index concurrently.
    type: float
    default: 3600
  release:
    description:
      - Release id, for the record.
    type: str
    default: ""
  applied_by:
    description:
      - Who does this, for the record. The host's name when it is empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would be applied, after every check that does not need the migrations to run.
    support: full
  diff_mode:
    description: Shows the schema level before and after.
    support: full
  idempotent:
    description: A second run changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Bring the database to the release's schema level
  linkrift.platform.pg_migrate:
    migrations: /opt/linkrift/releases/1.4.0+3f9c2a71b0de/migrations/postgresql
    python: /opt/linkrift/releases/1.4.0+3f9c2a71b0de/venv/bin/python
    release: 1.4.0+3f9c2a71b0de
    host: db.linkrift.internal
    password: "{{ linkrift_secrets.postgresql_owner_password }}"
    sslrootcert: /etc/linkrift/tls/ca.pem
  run_once: true

- name: End the support of old releases
  linkrift.platform.pg_migrate:
    migrations: /opt/linkrift/releases/1.5.0+77aa01c2d3e4/migrations/postgresql
    python: /opt/linkrift/releases/1.5.0+77aa01c2d3e4/venv/bin/python
    host: db.linkrift.internal
    password: "{{ linkrift_secrets.postgresql_owner_password }}"
    sslrootcert: /etc/linkrift/tls/ca.pem
    allow_contract: true
  run_once: true
"""

RETURN = r"""
from:
  description: Schema level before; null when check mode cannot know it.
  returned: success
  type: int
  sample: 3
to:
  description: Schema level afterwards; null when check mode cannot know it.
  returned: success
  type: int
  sample: 5
schema_level:
  description: The same as RV(to).
  returned: success
  type: int
  sample: 5
floor:
  description: Oldest schema level whose releases work on the database; 0 when there is no bound.
  returned: success
  type: int
  sample: 0
applied:
  description: What was applied (in check mode, what would be), in order.
  returned: success
  type: list
  elements: dict
  contains:
    version:
      description: Number of the migration.
      type: int
    name:
      description: Words of its file name.
      type: str
    kind:
      description: V(expand) or V(contract).
      type: str
    duration:
      description: Seconds that it took; null in check mode.
      type: float
    attempts:
      description: How often it was tried until it got its locks; null in check mode.
      type: int
msg:
  description: A sentence for the operator.
  returned: always
  type: str
  sample: "the database is at level 5, nothing to do"
"""

import socket
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import (
    Migration,
    MigrationError,
    load_migrations,
)
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_plan import Plan, make_plan
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_postgresql import (
    CONNECTION,
    HAS_PSYCOPG2,
    Applied,
    NoConnectionError,
    Settings,
    carry_out,
    connect,
    migration_lock,
    read_state,
)

_SETTINGS = (
    "host",
    "port",
    "database",
    "user",
    "password",
    "sslmode",
    "lock_wait",
    "lock_timeout",
    "lock_attempts",
    "statement_timeout",
    "concurrent_timeout",
    "release",
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "migrations": {"type": "path", "required": True},
            **CONNECTION,
            "target": {"type": "int"},
            "allow_contract": {"type": "bool", "default": False},
            "lock_wait": {"type": "float", "default": 120},
            "lock_timeout": {"type": "float", "default": 5},
            "lock_attempts": {"type": "int", "default": 10},
            "statement_timeout": {"type": "float", "default": 300},
            "concurrent_timeout": {"type": "float", "default": 3600},
            "release": {"type": "str", "default": ""},
            "applied_by": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    _use_interpreter(module)
    try:
        result = _check(module.params) if module.check_mode else _migrate(module.params)
    except MigrationError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


def _use_interpreter(module: AnsibleModule) -> None:
    """Go on in the interpreter that has psycopg2; a dry run on a host without the release ends here."""
    python = module.params["python"]
    if python and not has_respawned():
        if Path(python).is_file():
            respawn_module(python)
        elif module.check_mode:
            module.exit_json(**_unknown(f"unknown until the release is installed: there is no {python} yet"))
        else:
            module.fail_json(msg=f"there is no {python}: install the release on this host first")
    if not HAS_PSYCOPG2:
        module.fail_json(msg=missing_required_lib("psycopg2"))


def _settings(params: dict[str, Any]) -> Settings:
    """Turn module parameters into settings."""
    return Settings(
        **{name: params[name] for name in _SETTINGS},
        sslrootcert=params["sslrootcert"] or "",
        applied_by=params["applied_by"] or socket.gethostname(),
    )


def _plan(params: dict[str, Any], migrations: list[Migration], connection: Any) -> Plan:
    """Compare the files with the database."""
    state = read_state(connection)
    return make_plan(migrations, state, target=params["target"], allow_contract=params["allow_contract"])


def _check(params: dict[str, Any]) -> dict[str, Any]:
    """Say what a real run would do, without changing anything."""
    if not Path(params["migrations"]).is_dir():
        return _unknown(f"unknown until the release is installed: there is no {params['migrations']} yet")
    migrations = load_migrations(Path(params["migrations"]))
    try:
        with connect(_settings(params), read_only=True) as connection:
            plan = _plan(params, migrations, connection)
    except NoConnectionError as error:
        return _unknown(f"unknown until the database exists: {error}")
    return _result(plan, [], done=False)


def _migrate(params: dict[str, Any]) -> dict[str, Any]:
    """Apply what is pending."""
    migrations = load_migrations(Path(params["migrations"]))
    settings = _settings(params)
    with connect(settings) as connection:
        if _nothing_to_do(params, migrations, connection):
            return _result(_plan(params, migrations, connection), [], done=True)
        with migration_lock(connection, settings):
            # Another runner may have done it while this one waited.
            plan = _plan(params, migrations, connection)
            applied = carry_out(connection, settings, plan) if plan.changes else []
    return _result(plan, applied, done=True)


def _nothing_to_do(params: dict[str, Any], migrations: list[Migration], connection: Any) -> bool:
    """Look without the lock, which the usual run does not need."""
    try:
        return not _plan(params, migrations, connection).changes
    except MigrationError:
        # Perhaps only another runner's work in progress: what the state looks like under the lock decides.
        return False


def _unknown(message: str) -> dict[str, Any]:
    """Return what check mode answers when the future is not to be seen from here: it may well change something."""
    return {
        "changed": True,
        "msg": message,
        "from": None,
        "to": None,
        "schema_level": None,
        "floor": None,
        "applied": [],
    }


def _result(plan: Plan, applied: list[Applied], *, done: bool) -> dict[str, Any]:
    """Return the module's answer; in check mode the plan's migrations stand for what would be applied."""
    figures = {done.migration.version: done for done in applied}
    return {
        "changed": plan.changes,
        "msg": plan.summary(done=done),
        "from": plan.start,
        "to": plan.level,
        "schema_level": plan.level,
        "floor": plan.floor,
        "applied": [
            {
                "version": migration.version,
                "name": migration.name,
                "kind": migration.kind,
                "duration": round(figures[migration.version].duration, 3) if migration.version in figures else None,
                "attempts": figures[migration.version].attempts if migration.version in figures else None,
            }
            for migration in plan.pending
        ],
        "diff": {"before": f"schema level {plan.start}\n", "after": f"schema level {plan.level}\n"},
    }


if __name__ == "__main__":
    main()

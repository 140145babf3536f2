"""Spoils the lab's hosts by hand, and tells which of it no check sees.

    MOLECULE_INVENTORY_FILE=<inventory> python -m tools.testing.spoil

Each mutation is one way in which hosts go astray over the years. All are done at once, and the checks that are to see
them run; what prints is a JSON list of the mutations that were overlooked. The next site.yml repairs them all: the same
checks pass when the whole of tests/ is run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.lab import ROOT
from tools.testing.lab_hosts import get_host

CHECKS = Path("molecule/default/tests")
UNIT = "/etc/systemd/system/linkrift-redirect@.service"


@dataclass(frozen=True)
class Mutation:
    """One thing gone astray.

    Attributes:
        host: Where.
        command: What was done, by root.
        seen_by: The check that sees it, as pytest names it.
    """

    host: str
    command: str
    seen_by: str


MUTATIONS = {
    "a secret that everybody can read": Mutation(
        "app1",
        "chmod 0644 /etc/linkrift/api.env",
        "test_slots.py::test_secrets_lie_where_only_root_reads[api-app1]",
    ),
    "a port that is open to everybody": Mutation(
        "app2",
        "ufw allow 8082/tcp; ufw allow 8182/tcp",
        "test_ports.py::test_exactly_the_implied_ports_are_open[client1]",
    ),
    "a service that was stopped": Mutation(
        "app3",
        "systemctl stop 'linkrift-worker@*'",
        "test_slots.py::test_one_slot_is_live_and_the_other_idle[worker-app3]",
    ),
    "a watchman who was switched off": Mutation(
        "ops1", "systemctl disable --now fail2ban", "test_base.py::test_units_start_at_boot[ops1]"
    ),
    "a unit without its sandbox": Mutation(
        "app1",
        f"sed -i '/^Protect\\|^Private\\|^SystemCall\\|^Capab\\|^Restrict[AN]/d' {UNIT}; systemctl daemon-reload",
        "test_slots.py::test_the_unit_is_sandboxed[redirect-app1]",
    ),
    "a kernel setting changed at run time": Mutation(
        "lb1",
        "sysctl -qw net.ipv4.tcp_syncookies=0",
        "test_base.py::test_kernel_settings_are_set_now_and_at_boot[lb1]",
    ),
    "a services' user who may become root": Mutation(
        "data1", "usermod -aG sudo linkrift", "test_base.py::test_the_services_user_can_do_nothing_else[data1]"
    ),
    "passwords let in by SSH": Mutation(
        "client1",
        "sed -i 's/^PasswordAuthentication.*/PasswordAuthentication yes/' /etc/ssh/sshd_config.d/00-linkrift.conf;"
        " systemctl reload ssh",
        "test_base.py::test_the_ssh_server_lets_in_keys_only[client1]",
    ),
    "a directory of others": Mutation("lb1", "chmod 0777 /etc/linkrift", "test_base.py::test_modes[lb1]"),
}


def overlooked() -> list[str]:
    """Run the checks in a process of their own, and name the mutations that they do not see."""
    nodes = [str(CHECKS / mutation.seen_by) for mutation in MUTATIONS.values()]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "--tb=no", "-p", "no:cacheprovider", *nodes],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    passed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("PASSED ")}
    failed = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAILED ")}
    if passed | failed != set(nodes):
        sys.exit(f"not every check was run:\n{done.stdout}{done.stderr}")
    return [name for name, node in zip(MUTATIONS, nodes, strict=True) if node in passed]


if __name__ == "__main__":
    for each in MUTATIONS.values():
        get_host(each.host).run_test(each.command)
    print(json.dumps(overlooked()))

"""A rollout that is refused tells who wants to know; a host that is down keeps nobody from going back."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.lab import ROOT
from tools.testing.ansible_site import COLLECTION, DOWN, Site, say

RELEASE = "1.4.0+3f9c2a71b0de"
ANOTHERS = {
    "format": 1,
    "id": "20260101T000000Z-bbbbbb",
    "purpose": "patch",
    "by": "bob@other",
    "control": {},
    "since": "2026-01-01T00:00:00Z",
    "until": "2999-01-01T00:00:00Z",
}
HELD = (
    "lb1: the fleet is being changed: patch 20260101T000000Z-bbbbbb by bob@other, since 2026-01-01T00:00:00Z,"
    " until 2999-01-01T00:00:00Z"
)


class Channel:
    """Takes messages."""

    def __init__(self) -> None:
        channel = self
        self.got: list[dict[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                channel.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_words: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def channel() -> Iterator[Channel]:
    made = Channel()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of somebody who takes connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def site(tmp_path: Path, channel: Channel) -> Site:
    made = Site(tmp_path)
    made.groups = {f"{service}_hosts": ["app1", "app2"] for service in ("api", "redirect", "worker")}
    made.variables = {
        "ansible_become": False,
        "linkrift_notifications": [{"url": channel.url}],
        "awx_user_name": "alice",
    }
    made.defaults["linkrift.platform.fleet_lock"] = {"path": f"{tmp_path}/{{{{ item }}}}.lease"}
    return made


def roll_out(site: Site, **variables: object) -> tuple[int, str]:
    """Run role rollout as its playbooks do."""
    play = {
        "hosts": "app_hosts:balancers",
        "gather_facts": False,
        "module_defaults": site.defaults,
        "roles": [{"role": "linkrift.platform.rollout", "vars": {"rollout_source": str(site.root), **variables}}],
    }
    path = site.root / "play.yml"
    path.write_text(yaml.safe_dump([play]))
    return site.run_playbook(path)


def test_a_fleet_that_somebody_else_has_is_told_of(site: Site, channel: Channel) -> None:
    (site.root / "lb1.lease").write_text(json.dumps(ANOTHERS))
    status, output = roll_out(site, rollout_purpose="rollback")
    assert status == 2, output
    assert HELD in output
    [message] = channel.got
    assert message["text"].startswith(f"rollback was refused, and nothing was begun: {HELD}")
    fields = {field["title"]: field["value"] for field in message["attachments"][0]["fields"]}
    assert fields["By"].startswith("alice@")
    # A dry run tells nobody.
    site.options = ["--check"]
    status, output = roll_out(site, rollout_purpose="rollback")
    assert status == 2, output
    assert HELD in output
    assert len(channel.got) == 1


def test_what_the_hosts_cannot_take_is_told_of(site: Site, channel: Channel, silent: int) -> None:
    site.hosts["app2"] = DOWN
    # It keeps the refusal from nobody.
    hangs = {"url": f"http://127.0.0.1:{silent}/secret"}
    site.variables["linkrift_notifications"] = [hangs, {"url": channel.url}]
    status, output = roll_out(site, rollout_release=RELEASE, notify_timeout=2)
    assert status == 2, output
    assert "Nothing was begun. Mend this first:" in output
    assert "127.0.0.1 was not told of this failure: no answer within 2 s" in output
    [message] = channel.got
    assert message["text"].startswith("deploy was refused, and nothing was begun: app1: error: ")
    assert "app2: error: " in message["text"]
    assert "leave it out with -e without=app2" in message["text"]
    assert message["text"].endswith(f": api, redirect, worker {RELEASE}")
    assert not (site.root / "lb1.lease").exists()


def test_without_balancers_nobody_goes_back(site: Site) -> None:
    status, output = roll_out(site, rollout_purpose="emergency", rollout_balancers=[])
    assert status == 2, output
    assert "None of the balancers (lb1, lb2) can be reached: bring one back" in output


# -- drain.yml, undrain.yml, patch.yml, remove_host.yml ----------------------------------------------------------------

OPERATIONS = ("drain", "undrain", "patch", "remove_host")
HELD_BY_ANOTHER = {"ansible.builtin.fail": {"msg": HELD}, "when": "fleet_lock_purpose is defined"}
# What role patch does with a host that needs something: it holds the fleet, and then says that it has begun.
PATCHES: list[dict[str, Any]] = [
    {"ansible.builtin.ping": {}},
    {"ansible.builtin.set_fact": {"patch_found": {"record": {}, "need": {"packages": [], "reboot_required": False}}}},
    {
        "ansible.builtin.include_role": {"name": "linkrift.platform.fleet_lock"},
        "vars": {"fleet_lock_purpose": "patch"},
        "when": "patch_run_id is defined",
    },
    {"ansible.builtin.set_fact": {"__patch_begun": True}, "when": "patch_run_id is defined"},
    {"ansible.builtin.command": {"cmd": "false"}, "when": "patch_run_id is defined"},
]
# What role drain does: it looks at the rotation, and goes on.
DRAINS: list[dict[str, Any]] = [
    {"ansible.builtin.command": {"cmd": "false"}, "loop": [1], "register": "__drain_rotation"}
]


def operate(site: Site, name: str) -> tuple[int, str]:
    """Run a playbook for app1."""
    site.options = ["-e", "host=app1"]
    return site.run_playbook(ROOT / f"playbooks/{name}.yml")


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_that_is_refused_tells_who_wants_to_know(site: Site, channel: Channel, name: str) -> None:
    site.replace({"fleet_lock": [HELD_BY_ANOTHER], "patch": PATCHES})
    status, output = operate(site, name)
    assert status == 2, output
    [message] = channel.got
    assert message["text"] == f"{name} was refused, and nothing was begun: {HELD}"
    fields = {field["title"]: field["value"] for field in message["attachments"][0]["fields"]}
    assert fields["By"].startswith("alice@")


def test_what_would_leave_nobody_is_told_of(site: Site, channel: Channel) -> None:
    site.groups["worker_hosts"] = ["app1"]
    site.replace({"fleet_lock": [say("has the fleet")]})
    status, output = operate(site, "drain")
    assert status == 2, output
    [message] = channel.got
    assert message["text"].startswith("drain was refused, and nothing was begun: worker would have no host left: app1 ")


def test_hosts_that_cannot_be_looked_at_are_told_of(site: Site, channel: Channel) -> None:
    site.hosts["app2"] = DOWN
    site.replace({"fleet_lock": [say("has the fleet")], "patch": PATCHES})
    status, output = operate(site, "patch")
    assert status != 0, output
    [message] = channel.got
    assert message["text"].startswith("patch was refused, and nothing was begun: app2 cannot be looked at")


@pytest.mark.parametrize(("name", "works"), [("drain", DRAINS), ("patch", PATCHES)])
def test_an_operation_that_fails_half_way_does_not_say_that_nothing_was_begun(
    site: Site, channel: Channel, name: str, works: list[dict[str, Any]]
) -> None:
    site.replace({"fleet_lock": [say("has the fleet")], name: works})
    status, output = operate(site, name)
    assert status == 2, output
    assert "SAID has the fleet" in output.split("non-zero return code", 1)[1], "and others may have it"
    [message] = channel.got
    assert message["text"] == f"{name} has failed: non-zero return code"


@pytest.mark.parametrize(
    ("name", "role", "mark"),
    [
        ("drain", "drain", "__drain_rotation"),
        ("undrain", "drain", "__drain_live"),
        ("patch", "patch", "__patch_begun"),
        ("remove_host", "drain", "__drain_rotation"),
    ],
)
def test_an_operation_knows_by_its_role_that_it_has_begun(name: str, role: str, mark: str) -> None:
    assert mark in (ROOT / f"playbooks/{name}.yml").read_text()
    tasks = "".join(
        path.read_text() for path in (ROOT / "collections" / COLLECTION / f"roles/{role}/tasks").glob("*.yml")
    )
    assert f"register: {mark}\n" in tasks


# -- emergency_rollback.yml --------------------------------------------------------------------------------------------

EMERGENCY = ROOT / "playbooks/emergency_rollback.yml"
PLAYED = [
    {
        "ansible.builtin.debug": {
            "msg": "SAID {{ ansible_play_hosts_all | sort | join(',') }} without {{ rollout_away | join(',') }}:"
            " {{ rollout_services | join(',') }}."
        },
        "run_once": True,
    }
]


def test_what_is_down_is_left_out(site: Site, silent: int) -> None:
    site.replace({"rollout": PLAYED})
    # It notes how it is asked, and then is not there.
    ssh = site.root / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" > {site.root}/asked\nexit 255\n')
    ssh.chmod(0o700)
    site.hosts["app2"] = {**DOWN, "ansible_ssh_executable": str(ssh)}
    # What the operator leaves out is not asked.
    site.hosts["app3"] = {**DOWN, "ansible_ssh_executable": "/nowhere"}
    # It is hung: it takes connections, and says nothing.
    site.balancers["lb1"] = {**DOWN, "ansible_port": silent}
    # Nobody of the workers is left: no visitor minds.
    site.groups["worker_hosts"] = ["app2"]
    site.options = ["-e", "reach=1", "-e", "without=app3"]
    status, output = site.run_playbook(EMERGENCY)
    assert status == 0, output
    assert "SAID app1,lb2 without app2,lb1: api,redirect." in output
    assert "ok: [app3]" not in output
    asked = (site.root / "asked").read_text()
    assert "ConnectTimeout=1 " in asked
    assert "ControlPath=none" in asked.replace('"', ""), (
        "a connection that was kept says nothing of a host that died since"
    )


def test_where_all_are_down_the_role_says_so(site: Site) -> None:
    site.replace({"rollout": PLAYED})
    site.hosts = dict.fromkeys(site.hosts, DOWN)
    site.balancers = dict.fromkeys(site.balancers, DOWN)
    status, output = site.run_playbook(EMERGENCY)
    assert status == 0, output
    assert "SAID app1,app2,lb1,lb2 without app1,app2,lb1,lb2: api,redirect,worker." in output


def test_a_service_without_a_host_is_refused(site: Site, channel: Channel) -> None:
    site.hosts["app2"] = DOWN
    site.groups["redirect_hosts"] = site.groups["worker_hosts"] = ["app2"]
    status, output = site.run_playbook(EMERGENCY)
    assert status == 2, output
    words = "No host of redirect can be reached: bring one back, or go on with the others, such as -e services=api"
    assert words in output
    [message] = channel.got
    assert message["text"].startswith(f"emergency was refused, and nothing was begun: Nothing was begun. {words}")
    fields = {field["title"]: field["value"] for field in message["attachments"][0]["fields"]}
    assert fields["Left out"] == "app2, which cannot be reached; worker, of which no host takes part"

"""The first installation made blue live on every host, and nothing but what was gated runs."""

from __future__ import annotations

import json

import pytest

from tools.testing.lab_hosts import APP_HOSTS, PORTS, SERVICES, fetch, get_host, variables

each_slot_host = pytest.mark.parametrize("name", APP_HOSTS)
each_service = pytest.mark.parametrize("service", SERVICES)


def live_slot(name: str, service: str) -> str:
    """Return the slot that is enabled on the host; exactly one must be."""
    host = get_host(name)
    enabled = [slot for slot in ("blue", "green") if host.service(f"linkrift-{service}@{slot}").is_enabled]
    assert len(enabled) == 1, f"{name}: enabled slots of {service}: {enabled}"
    return enabled[0]


@each_slot_host
@each_service
def test_one_slot_is_live_and_the_other_idle(name: str, service: str) -> None:
    host = get_host(name)
    live = live_slot(name, service)
    idle = {"blue": "green", "green": "blue"}[live]
    assert host.service(f"linkrift-{service}@{live}").is_running
    assert not host.service(f"linkrift-{service}@{idle}").is_running
    assert host.file(f"/var/lib/linkrift/{service}/{live}.admitted").exists
    assert not host.file(f"/var/lib/linkrift/{service}/{idle}.admitted").exists
    current = host.file(f"/opt/linkrift/{service}/current").linked_to
    assert current == host.file(f"/opt/linkrift/{service}/{live}").linked_to
    assert current.startswith("/opt/linkrift/releases/")


@each_slot_host
@each_service
def test_the_live_slot_answers_with_its_release(name: str, service: str) -> None:
    host = get_host(name)
    slot = live_slot(name, service)
    port = PORTS[service][("blue", "green").index(slot)]
    release = host.file(f"/opt/linkrift/{service}/current").linked_to.rsplit("/", 1)[1]
    base = f"http://{variables(name)['linkrift_address']}:{port}"
    ready = fetch(host, f"{base}/health/ready")
    health = json.loads(ready["body"])
    assert (ready["status"], health["status"], health["version"]) == (200, "ready", release)
    live = fetch(host, f"{base}/health")
    assert (live["status"], live["headers"]["X-Deployment-Version"]) == (200, release)


@each_slot_host
@each_service
def test_secrets_lie_where_only_root_reads(name: str, service: str) -> None:
    host = get_host(name)
    slot = live_slot(name, service)
    for path in (f"/etc/linkrift/{service}.env", f"/etc/linkrift/{service}/{slot}.env"):
        file = host.file(path)
        assert (file.user, file.mode) == ("root", 0o600), path
    pid = host.check_output("systemctl show -p MainPID --value linkrift-%s@%s", service, slot)
    command_line = host.file(f"/proc/{pid}/cmdline").content_string
    assert "password" not in command_line.lower()
    assert host.check_output("ps -o user= -p %s", pid).strip() == "linkrift"


@each_slot_host
@each_service
def test_the_ledger_says_what_went_live(name: str, service: str) -> None:
    host = get_host(name)
    ledger = host.file(f"/var/lib/linkrift/ledger/{service}.jsonl").content_string
    entries = [entry for entry in map(json.loads, ledger.splitlines()) if entry["action"] == "live"]
    last = entries[-1]
    assert last["slot"] == live_slot(name, service)
    assert host.file(f"/opt/linkrift/{service}/current").linked_to.endswith(f"/{last['release']}")


@each_slot_host
@each_service
def test_the_unit_is_sandboxed(name: str, service: str) -> None:
    host = get_host(name)
    report = host.run(
        "systemd-analyze security --no-pager --threshold=25 linkrift-%s@%s.service", service, live_slot(name, service)
    )
    assert report.rc == 0, report.stdout[-400:]


@each_slot_host
def test_nothing_of_a_release_is_writable_by_the_services(name: str) -> None:
    found = get_host(name).check_output("find /opt/linkrift \\( -user linkrift -o -perm /022 \\) ! -type l -print")
    assert found == ""

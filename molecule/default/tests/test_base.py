"""What role base makes of a host: who gets in, what is banned, what is upgraded, what is kept and for how long."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest

from tools.testing.lab_hosts import ALL_HOSTS, APP_HOSTS, get_host, run_json, variables

each_host = pytest.mark.parametrize("name", ALL_HOSTS)

# One look at a host serves all tests: what its programs say, modes, kernel settings, and what its SSH server offers.
LOOK = r"""
import grp, json, os, pathlib, pwd, socket, stat, subprocess, sys

def say(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env={**os.environ, "LC_ALL": "C"})
    return done.stdout + done.stderr

def mode(path):
    found = os.lstat(path)
    owner, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    return f"{owner}:{group} {stat.S_IMODE(found.st_mode):04o}"

def offer():
    # The server's first packet lists its algorithms: what runs, not what a file says.
    with socket.create_connection(("127.0.0.1", 22), timeout=5) as server:
        stream = server.makefile("rb")
        stream.readline()
        server.sendall(b"SSH-2.0-look\r\n")
        return stream.read(int.from_bytes(stream.read(4), "big")).decode("latin-1")

names = json.loads(sys.argv[1])
print(json.dumps({
    "passwd": say("getent", "passwd", "linkrift").strip(),
    "groups": say("id", "-Gn", "linkrift").split(),
    "shadow": say("getent", "shadow", "linkrift").split(":")[1],
    "sudo": say("sudo", "-n", "-l", "-U", "linkrift"),
    "sudo_ops": say("sudo", "-n", "-l", "-U", "ops"),
    "modes": {path: mode(path) for path in names["paths"] if os.path.lexists(path)},
    "sshd": dict(line.partition(" ")[::2] for line in say("/usr/sbin/sshd", "-T").splitlines()),
    "offer": offer(),
    "jail": say("fail2ban-client", "status", "sshd"),
    "ignored": say("fail2ban-client", "get", "sshd", "ignoreip"),
    "bans": say("fail2ban-client", "get", "sshd", "actions"),
    "apt": say("apt-config", "dump"),
    "restarts": say("perl", "-e", "do '/etc/needrestart/conf.d/50-linkrift.conf'; print $nrconf{restart};"
                    "for (keys %{$nrconf{override_rc}}) { print ' none' if 'haproxy.service' =~ $_ }"),
    "kernel": {name: pathlib.Path("/proc/sys", *name.split(".")).read_text().split() for name in names["kernel"]},
    "boot": pathlib.Path("/etc/sysctl.d/90-linkrift.conf").read_text(),
    "journal": say("journalctl", "--unit=systemd-journald", "--output=cat", "--grep=/var/log/journal.* max "),
    "cores": say("su", "ops", "-c", "ulimit -Hc; ulimit -Sc").split(),
    "core_default": say("systemctl", "show", "--property=DefaultLimitCORE", "--value").strip(),
    "units": say("systemctl", "is-enabled", *names["units"]).split(),
    "umask": say("su", "-", "ops", "-c", "umask").strip().splitlines()[-1],
    "hosts": {name: say("getent", "ahosts", name) for name in names["names"]},
    "modprobe": pathlib.Path("/etc/modprobe.d/linkrift.conf").read_text(),
    "logrotate": say("logrotate", "--debug", "/etc/logrotate.conf"),
}))
"""

MODES = {
    "/etc/linkrift": "root:root 0755",
    "/etc/linkrift/tls/ca.pem": "root:root 0644",
    "/var/log/linkrift": "linkrift:adm 2750",
    "/opt/linkrift/releases": "root:root 0755",
    "/var/backups/linkrift": "root:root 0750",
    "/root": "root:root 0700",
    "/etc/crontab": "root:root 0600",
    "/etc/cron.d": "root:root 0700",
    "/etc/sudoers.d": "root:root 0750",
    "/etc/ssh/sshd_config": "root:root 0600",
    "/etc/ssh/sshd_config.d/00-linkrift.conf": "root:root 0600",
}
# Those that a container may change: the network's are its own.
KERNEL = {
    "net.core.somaxconn": "8192",
    "net.ipv4.ip_local_port_range": "15000 65000",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv4.tcp_fin_timeout": "20",
    "net.ipv4.ip_forward": "0",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.all.rp_filter": "1",
    "net.ipv6.conf.all.accept_redirects": "0",
}
UNITS = [
    "fail2ban.service",
    "logrotate.timer",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "systemd-timesyncd.service",
]
NAMES = {"db": "data1", "redis": "data1", "clickhouse": "data1", "bundles": "ops1", "haproxy": "lb1"}


@functools.cache
def seen(name: str) -> dict[str, Any]:
    """Return what there is to see on a host."""
    domain = variables(name)["linkrift_internal_domain"]
    what = {
        "paths": list(MODES),
        "kernel": list(KERNEL),
        "units": UNITS,
        "names": [f"{alias}.{domain}" for alias in (*NAMES, "vault")],
    }
    found: dict[str, Any] = run_json(get_host(name), "python3 -c %s %s", LOOK, json.dumps(what))
    return found


@each_host
def test_the_services_user_can_do_nothing_else(name: str) -> None:
    found = seen(name)
    assert found["passwd"].endswith(":/var/lib/linkrift:/usr/sbin/nologin")
    assert found["groups"] == ["linkrift"]
    assert found["shadow"].startswith("!")
    assert "may run the following" not in found["sudo"]
    # The hardening leaves operators what they need.
    assert "NOPASSWD: ALL" in found["sudo_ops"]


@each_host
def test_modes(name: str) -> None:
    found = seen(name)["modes"]
    assert found == {path: mode for path, mode in MODES.items() if path in found}
    assert {"/etc/linkrift", "/var/log/linkrift", "/etc/ssh/sshd_config.d/00-linkrift.conf"} <= set(found)


@each_host
def test_the_ssh_server_lets_in_keys_only(name: str) -> None:
    options = seen(name)["sshd"]
    expected = {
        "port": "22",
        "permitrootlogin": "no",
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "pubkeyauthentication": "yes",
        "maxauthtries": "3",
        "logingracetime": "30",
        "x11forwarding": "no",
        "allowagentforwarding": "no",
        "allowtcpforwarding": "no",
        "loglevel": "VERBOSE",
    }
    assert {key: options[key] for key in expected} == expected


@each_host
def test_the_ssh_server_offers_strong_algorithms_only(name: str) -> None:
    offer = seen(name)["offer"]
    assert "curve25519-sha256" in offer
    assert "hmac-sha2-512-etm@openssh.com" in offer
    for weak in ("nistp256,", "group14", "group-exchange", "hmac-sha1", "umac-64", "-cbc"):
        assert weak not in offer, weak


@each_host
def test_attackers_are_banned_and_operators_never(name: str) -> None:
    found = seen(name)
    assert "Status for the jail: sshd" in found["jail"]
    assert "nftables" in found["bans"]
    ignored = set(found["ignored"].replace("|-", " ").replace("`-", " ").split())
    assert {"127.0.0.0/8", "::1"} <= ignored
    assert {variables(host)["linkrift_address"] for host in ALL_HOSTS} <= ignored
    assert {variables(host)["linkrift_address6"] for host in ALL_HOSTS} <= ignored
    # The control node is the machine that the lab is on.
    assert variables(name)["linkrift_address"].rpartition(".")[0] + ".1" in ignored


@each_host
def test_security_fixes_come_by_themselves_and_restart_nothing(name: str) -> None:
    found = seen(name)
    apt = found["apt"]
    assert 'APT::Periodic::Unattended-Upgrade "1";' in apt
    origins = [line for line in apt.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern::")]
    assert origins
    assert all("security" in origin for origin in origins)
    assert "Unattended-Upgrade::Allowed-Origins::" not in apt
    for package in ("haproxy", "postgresql", "redis", "clickhouse", "nginx"):
        assert f'Unattended-Upgrade::Package-Blacklist:: "{package}";' in apt
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in apt
    assert found["restarts"] == "l none"


@each_host
def test_units_start_at_boot(name: str) -> None:
    assert seen(name)["units"] == ["enabled"] * len(UNITS)


@each_host
def test_kernel_settings_are_set_now_and_at_boot(name: str) -> None:
    found = seen(name)
    assert {setting: " ".join(words) for setting, words in found["kernel"].items()} == KERNEL
    for setting, value in {**KERNEL, "kernel.kptr_restrict": "2", "vm.swappiness": "10"}.items():
        assert f"-{setting} = {value}\n" in found["boot"]


@each_host
def test_the_journal_is_kept_and_bounded(name: str) -> None:
    assert "max 1.0G" in seen(name)["journal"] or "max 1G" in seen(name)["journal"]


@each_host
def test_nobody_writes_memory_images(name: str) -> None:
    found = seen(name)
    assert found["cores"] == ["0", "0"]
    assert found["core_default"] == "0"


@each_host
def test_people_write_files_for_themselves(name: str) -> None:
    assert seen(name)["umask"] == "0027"


@each_host
def test_unused_protocols_cannot_be_loaded(name: str) -> None:
    lines = seen(name)["modprobe"].splitlines()
    assert {"install dccp /bin/true", "install sctp /bin/true", "install usb-storage /bin/true"} <= set(lines)


@each_host
def test_internal_names(name: str) -> None:
    found = seen(name)["hosts"]
    domain = variables(name)["linkrift_internal_domain"]
    for alias, target in NAMES.items():
        assert variables(target)["linkrift_address"] in found[f"{alias}.{domain}"]
        assert variables(target)["linkrift_address6"] in found[f"{alias}.{domain}"]
    # Nobody is in its group yet.
    assert found[f"vault.{domain}"] == ""


@each_host
def test_the_rules_of_logrotate_do_not_overlap(name: str) -> None:
    found = seen(name)["logrotate"]
    assert "/var/log/linkrift/audit.log" in found
    assert "duplicate log entry" not in found
    assert "error:" not in found


# As the API does it: whoever writes opens the file by its name.
ROTATE = """
set -eu
log=/var/log/linkrift/audit.log
runuser -u linkrift -- sh -c "umask 027; echo '{\\"test\\": \\"before\\"}' >> $log"
logrotate --force --state /run/linkrift-test-rotation /etc/logrotate.d/linkrift-audit
runuser -u linkrift -- sh -c "echo '{\\"test\\": \\"after\\"}' >> $log"
rotated=$(ls -t $log-* | head -n 1)
stat --format '%U:%G %a' "$rotated" "$log"
cat "$rotated" | tail -n 1
cat "$log"
rm -f "$rotated" /run/linkrift-test-rotation
"""


@pytest.mark.parametrize("name", ["client1", APP_HOSTS[-1]])
def test_the_audit_log_is_rotated(name: str) -> None:
    lines = get_host(name).check_output("sh -c %s", ROTATE).splitlines()
    assert lines[:2] == ["linkrift:adm 640", "linkrift:adm 640"]
    assert json.loads(lines[2]) == {"test": "before"}
    assert json.loads(lines[-1]) == {"test": "after"}
    assert not [line for line in lines[3:] if "before" in line]

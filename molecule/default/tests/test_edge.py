"""The edge, as a visitor meets it and as an operator finds it."""

from __future__ import annotations

import json
import re
import secrets
import ssl
import time
from typing import Any, cast

import pytest
from testinfra.host import Host

from tools.testing.lab_hosts import ALL_HOSTS, BALANCERS, Lab, get_host, run_json, variables

LOG = "/var/log/linkrift/haproxy-access.log"
CERTIFICATE = "/etc/haproxy/certs/linkrift.pem"
METRICS = "/var/lib/prometheus/node-exporter"

# Sends raw bytes over TLS, each text over a connection of its own, all at once; returns what came back, and after how
# many seconds. Errors are answers, too. Whom it comes from does not matter here: test_visitor.py verifies that.
RAW = """
import concurrent.futures, json, socket, ssl, sys, time
address, name, *texts = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def ask(text):
    start = time.monotonic()
    answer = b""
    try:
        with context.wrap_socket(socket.create_connection((address, 443), 10), server_hostname=name) as connection:
            connection.settimeout(10)
            connection.sendall(text.encode().decode("unicode_escape").encode("latin-1"))
            while chunk := connection.recv(65536):
                answer += chunk
    except OSError as error:
        answer += repr(error).encode()
    return [answer.decode("latin-1"), time.monotonic() - start]
with concurrent.futures.ThreadPoolExecutor(9) as pool:
    print(json.dumps(list(pool.map(ask, texts))))
"""


def raw(host: Host, address: str, name: str, *texts: str) -> list[tuple[str, float]]:
    """Send requests as they are; return the answers and how long they took."""
    found = run_json(host, "python3 -c %s" + " %s" * (2 + len(texts)), RAW, address, name, *texts)
    return [(str(answer), float(seconds)) for answer, seconds in found]


def logged(marker: str, count: int) -> list[dict[str, Any]]:
    """Return the lines of the access log, rotated ones too, that have a marker, once there are enough."""
    host = get_host("lb1")
    deadline = time.monotonic() + 5
    while True:
        lines = host.run("zcat -f %s* | grep -F %s", LOG, marker).stdout.splitlines()
        if len(lines) >= count or time.monotonic() > deadline:
            return [cast("dict[str, Any]", json.loads(line)) for line in lines]


def test_haproxy_shows_the_certificate_of_the_inventory(lab: Lab) -> None:
    wanted = (lab.directory / "tls/public.pem").read_text()
    command = "openssl s_client -connect %s:443 -servername %s </dev/null 2>/dev/null"
    shown = get_host("client1").run(command, lab.balancer, f"go.{lab.domain}").stdout
    found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", shown, re.DOTALL)
    assert found
    assert ssl.PEM_cert_to_DER_cert(found[0]) == ssl.PEM_cert_to_DER_cert(wanted)
    file = get_host("lb1").file(CERTIFICATE)
    assert (file.mode, file.user) == (0o600, "root")
    assert get_host("lb1").file("/etc/haproxy/certs").mode == 0o700


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_every_host_reports_when_its_certificates_expire(name: str) -> None:
    host = get_host(name)
    expected = {
        **dict.fromkeys(BALANCERS, CERTIFICATE),
        "data1": "/etc/postgresql/15/main/linkrift.pem",
        "ops1": "/etc/nginx/linkrift-bundle-store/certificate-and-key.pem",
    }
    text = host.file(f"{METRICS}/linkrift_certificates.prom").content_string
    found = dict(re.findall(r'linkrift_certificate_expiry_seconds\{path="([^"]+)",subject="[^"]+"\} (\d+)', text))
    assert {"/etc/linkrift/tls/ca.pem", expected.get(name, "/etc/linkrift/tls/ca.pem")} <= set(found)
    assert all(int(until) > time.time() + 30 * 86400 for until in found.values())
    assert "} 1\n" not in text
    assert host.service("linkrift-certificates.timer").is_running


def test_only_listed_networks_may_connect(lab: Lab) -> None:
    name, get = f"go.{lab.domain}", f"GET /x HTTP/1.1\\r\\nHost: go.{lab.domain}\\r\\nConnection: close\\r\\n\\r\\n"
    # The lab's networks are exempt, and loopback is not: the balancer itself is refused there.
    assert raw(get_host("client1"), lab.balancer, name, get)[0][0].startswith("HTTP/1.1 404")
    assert "HTTP/" not in raw(get_host("lb1"), "127.0.0.1", name, get)[0][0]
    listed = get_host("lb1").file("/etc/haproxy/cloudflare.lst").content_string
    assert re.search(r"^# as of: \d{4}-\d\d-\d\dT", listed, re.MULTILINE)
    loaded = ask_haproxy("show acl /etc/haproxy/cloudflare.lst")
    assert set(re.findall(r"^[0-9a-f].*/\d+$", listed, re.MULTILINE)) == set(re.findall(r"0x\w+ (\S+/\d+)", loaded))
    assert (
        "linkrift_allowlist_as_of_seconds" in get_host("lb1").file(f"{METRICS}/linkrift_allowlist.prom").content_string
    )


def ask_haproxy(command: str) -> str:
    """Send a command to the admin socket."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock');"
        "s.sendall(sys.argv[1].encode() + b'\\n'); s.shutdown(1); print(s.makefile().read())"
    )
    return str(get_host("lb1").check_output("python3 -c %s %s", code, command))


def test_what_a_stranger_claims_to_be_is_not_believed(lab: Lab) -> None:
    marker = secrets.token_hex(8)
    claim = (
        f"GET /{marker} HTTP/1.1\\r\\nHost: go.{lab.domain}\\r\\nConnection: close\\r\\n"
        "CF-Connecting-IP: 203.0.113.9\\r\\nX-Forwarded-For: 203.0.113.8\\r\\n\\r\\n"
    )
    client, name = get_host("client1"), f"go.{lab.domain}"
    raw(client, lab.balancer, name, claim)
    assert [line["client"] for line in logged(marker, 1)] == [variables("client1")["linkrift_address"]]
    if variables("client1")["linkrift_address6"] in get_host("lb1").file("/etc/haproxy/cloudflare.lst").content_string:
        # renewals.yml refreshed the list.
        raw(client, lab.balancer6, name, claim)
        assert logged(marker, 2)[-1]["client"] == "203.0.113.9"


def test_no_line_is_lost_while_the_log_is_rotated(lab: Lab) -> None:
    marker = secrets.token_hex(8)
    client, balancer = get_host("client1"), get_host("lb1")
    pid = re.search(r"Pid: (\d+)", ask_haproxy("show info"))
    # Paced, so that the requests last longer than both rotations. Who answers is verified by test_visitor.py.
    load = (
        "import http.client, ssl, sys, time; c = ssl.create_default_context(); c.check_hostname = False;"
        "c.verify_mode = ssl.CERT_NONE; h = http.client.HTTPSConnection(sys.argv[1], context=c);"
        "[(h.request('GET', '/' + sys.argv[2], headers={'Host': sys.argv[3]}), h.getresponse().read(),"
        " time.sleep(0.005)) for _ in range(400)]"
    )
    unit = f"linkrift-load-{marker}"
    words = "systemd-run --quiet --collect --unit=%s python3 -c %s %s %s %s"
    client.check_output(words, unit, load, lab.balancer, marker, f"go.{lab.domain}")
    rotate = "logrotate --force /etc/logrotate.d/linkrift-haproxy-access"
    # What is rotated is named by its second: twice in one would be once.
    balancer.check_output(
        f"second=$(date +%s) && {rotate} && systemctl restart linkrift-access-log.service"
        f" && while test $(date +%s) = $second; do sleep 0.05; done && {rotate}"
    )
    deadline = time.monotonic() + 15
    while client.run("systemctl is-active %s", unit).rc == 0 and time.monotonic() < deadline:
        time.sleep(0.2)  # between two looks, with a deadline: the load ends by itself
    found = logged(marker, 400)
    assert len(found) == 400
    assert len({line["id"] for line in found}) == 400
    assert "DroppedLogs: 0" in ask_haproxy("show info")
    assert pid
    assert f"Pid: {pid[1]}\n" in ask_haproxy("show info")
    assert balancer.file(LOG).mode == 0o640


def test_a_line_of_the_log_is_an_object_whatever_is_asked(lab: Lab) -> None:
    marker = secrets.token_hex(8)
    # Quotes, a backslash, control characters in escapes: what would break out of the object.
    text = f'GET /{marker}?a="b\\\\\\\\c"%0a{{}} HTTP/1.1\\r\\nHost: go.{lab.domain}\\r\\nConnection: close\\r\\n\\r\\n'
    ((answer, _),) = raw(get_host("client1"), lab.balancer, f"go.{lab.domain}", text)
    (line,) = logged(marker, 1)
    assert line["uri"].startswith(f'/{marker}?a="b')
    assert line["status"] == int(answer.split()[1])
    assert f"\r\nx-request-id: {line['id']}\r\n" in answer.lower()
    assert line["backend"] == "linkrift_redirect"
    assert line["server"].split("-")[0] in ALL_HOSTS
    assert {"time", "client", "host", "method", "bytes", "backend", "server", "tls", "total_ms"} <= set(line)


def test_what_haproxy_itself_says_is_in_the_journal() -> None:
    said = get_host("lb1").check_output("journalctl --unit=haproxy --lines=200 --output=cat --no-pager")
    assert "Server linkrift_redirect/" in said
    assert not get_host("lb1").service("rsyslog").is_running


def test_slow_and_large_requests_end(lab: Lab) -> None:
    client, name = get_host("client1"), f"go.{lab.domain}"
    head = f"GET /x HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n"
    slow, large, many, good = raw(
        client,
        lab.balancer,
        name,
        head + "X-Slow: ",
        head + "X-Large: " + "a" * 20000 + "\\r\\n\\r\\n",
        head + "".join(f"X-{number}: a\\r\\n" for number in range(100)) + "\\r\\n",
        head + "\\r\\n",
    )
    assert slow[0].startswith("HTTP/1.1 408")
    assert 4 < slow[1] < 8
    for answer, _ in (large, many):
        assert re.match(r"HTTP/1.1 4(00|13|31) ", answer)
    assert good[0].startswith("HTTP/1.1 404")


def test_error_page_is_for_people_and_names_the_request(lab: Lab) -> None:
    name = f"go.{lab.domain}"
    text = f"GET /health HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n"
    head, _, body = raw(get_host("client1"), lab.balancer, name, text)[0][0].partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 404")
    assert "cache-control: no-store" in head.lower()
    identity = re.search(r"(?im)^x-request-id: (\S+)\r?$", head)
    assert identity
    assert body.startswith("<!doctype html>")
    assert identity[1] in body


def test_metrics_and_statistics_are_not_for_the_public(lab: Lab) -> None:
    assert "haproxy_process_uptime_seconds" in get_host("lb1").check_output(
        "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:8405/metrics\").read().decode())'"
    )
    listening = get_host("lb1").check_output(
        "ss --no-header --listening --numeric --tcp '( sport = :8404 or sport = :8405 )'"
    )
    assert all("127.0.0.1:" in line for line in listening.splitlines())


def test_configuration_has_no_warning_in_this_version() -> None:
    files = "-f /etc/haproxy/haproxy.cfg -f /etc/haproxy/linkrift-backends.cfg"
    result = get_host("lb1").run(f"haproxy -dW -c {files}")
    assert result.rc == 0, result.stderr

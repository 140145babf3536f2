# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates and lists of networks in a real HAProxy, while visitors are connected; and the role's configuration."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._allowlist import (
    Allowlist,
    Refresh,
    check_networks,
    read_time,
)
from ansible_collections.linkrift.platform.plugins.module_utils._certificates import CertificateError
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import HaproxyError
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy_certificate import (
    Bundle,
    Deployment,
    check_with,
    make_placeholder,
    read_bundle,
)
from ansible_collections.linkrift.platform.tests.servers.haproxy_bench import EXECUTABLE, Balancer
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import Made, fingerprint, make
from tools.testing.process import free_port

pytestmark = pytest.mark.servers

ROLE = Path(__file__).parents[2] / "roles/haproxy"
EDGE = """\
    acl believed src -f {directory}/list.lst
    http-request return status 200 content-type text/plain string believed if believed
    http-request return status 200 content-type text/plain string stranger
frontend secure
    bind 127.0.0.1:{tls} ssl crt {directory}/linkrift.pem
    http-request return status 200 content-type text/plain string secure
"""


class Edge(Balancer):
    """A HAProxy with TLS and a list of networks."""

    def __init__(self, directory: Path, bundle: Bundle) -> None:
        super().__init__(directory)
        self.tls = free_port()
        self.certificate = directory / "linkrift.pem"
        self.certificate.write_text(bundle.text)
        self.list = directory / "list.lst"
        self.list.write_text(make_list("192.0.2.0/24").text)
        self.main.write_text(self.main.read_text() + EDGE.format(directory=directory, tls=self.tls))

    @property
    def deployment(self) -> Deployment:
        return Deployment(self.certificate, self.haproxy, check_with(EXECUTABLE), self.reload, reload_timeout=8)

    def refresh(self, *networks: str, as_of: str = "2026-02-01") -> Any:
        return Refresh(self.list, self.haproxy, self.reload, force=True).apply(make_list(*networks, as_of=as_of))

    def connect(self) -> ssl.SSLSocket:
        """Return a new connection with TLS."""
        # Tests compare which certificate it is; they make their own, which nobody signed.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.tls), 5))

    def shown(self) -> str:
        """Return the fingerprint of the certificate that a new visitor is shown."""
        with self.connect() as connection:
            found = connection.getpeercert(binary_form=True)
        assert found
        return fingerprint(ssl.DER_cert_to_PEM_cert(found))


def make_list(*networks: str, as_of: str = "2026-01-01") -> Allowlist:
    return Allowlist(tuple(check_networks([*networks, "2001:db8::/32"])), read_time(as_of), "test")


def bundle_of(made: Made) -> Bundle:
    return read_bundle(made.pem, made.key_pem())


def ask(connection: socket.socket) -> str:
    """Send a request over a connection that stays open, and return the body of its answer."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: go.example.com\r\n\r\n")
    return connection.recv(4096).decode().rpartition("\r\n\r\n")[2]


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    if not Path(EXECUTABLE).exists():
        pytest.fail(f"{EXECUTABLE} is missing: apt-get install --no-install-recommends haproxy")
    made = Edge(tmp_path, make_placeholder(["go.example.com"]))
    made.apply()
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_renewal_ends_no_connection(edge: Edge) -> None:
    pid = edge.haproxy.view().pid
    with edge.connect() as connection:
        assert ask(connection) == "secure"
        for _dummy in range(3):
            bundle = bundle_of(make())
            assert edge.deployment.apply(bundle).how == "runtime"
            assert edge.shown() == bundle.certificate.fingerprint
            assert not edge.deployment.apply(bundle).changed
            assert ask(connection) == "secure"
    assert edge.haproxy.view().pid == pid
    # Whatever comes, comes back with it.
    edge.reload()
    edge.until(lambda: edge.haproxy.view().pid != pid)
    assert edge.shown() == bundle.certificate.fingerprint


def test_half_a_renewal_is_finished(edge: Edge) -> None:
    bundle = bundle_of(make())
    edge.certificate.write_text(bundle.text)
    assert edge.deployment.predict(bundle).changed
    edge.deployment.apply(bundle)
    assert edge.shown() == bundle.certificate.fingerprint
    # The process is ahead of the file.
    ahead = bundle_of(make())
    edge.haproxy.load_certificate(str(edge.certificate), ahead.text)
    edge.deployment.apply(ahead)
    assert edge.certificate.read_text() == ahead.text


def test_what_haproxy_refuses_changes_nothing(edge: Edge) -> None:
    before, shown = edge.certificate.read_text(), edge.shown()
    broken = Bundle(bundle_of(make()).chain, make().key_pem())
    with pytest.raises(CertificateError, match="HAProxy refuses the certificate"):
        edge.deployment.apply(broken)
    with pytest.raises(HaproxyError, match="does not take the certificate"):
        edge.haproxy.load_certificate(str(edge.certificate), "no certificate")
    assert (edge.certificate.read_text(), edge.shown()) == (before, shown)
    # Nothing is left over that a later renewal would stumble on.
    bundle = bundle_of(make())
    assert edge.deployment.apply(bundle).how == "runtime"


def test_certificate_that_nobody_uses_is_not_loaded(edge: Edge) -> None:
    assert edge.haproxy.certificate(str(edge.directory / "other.pem")) is None
    assert edge.haproxy.patterns(str(edge.directory / "other.lst")) is None


def test_list_changes_under_an_open_connection(edge: Edge) -> None:
    pid = edge.haproxy.view().pid
    with socket.create_connection(("127.0.0.1", edge.port), 5) as connection:
        assert ask(connection) == "stranger"
        many = [f"198.51.100.{number}/32" for number in range(200)]
        assert edge.refresh("127.0.0.0/8", *many).how == "runtime"
        assert ask(connection) == "believed"
        assert set(edge.haproxy.patterns(str(edge.list)) or []) == {"127.0.0.0/8", *many, "2001:db8::/32"}
        assert not edge.refresh("127.0.0.0/8", *many).changed
        edge.refresh("192.0.2.0/24", as_of="2026-03-01")
        assert ask(connection) == "stranger"
    assert edge.haproxy.view().pid == pid


PLAY = """\
- hosts: localhost
  gather_facts: false
  vars_files: [{role}/defaults/main.yml, {role}/vars/main.yml]
  tasks:
    - ansible.builtin.template:
        src: "{role}/templates/haproxy.cfg.j2"
        dest: "{directory}/haproxy.cfg"
        mode: "0600"
"""
COMMON = {"haproxy_hosts": [{"name": "go.example.com", "service": "redirect"}]}
VARIANTS = [
    {},
    {"haproxy_cloudflare_enabled": True, "haproxy_cloudflare_exempt_networks": ["192.0.2.0/24", "2001:db8::/32"]},
    {
        "haproxy_certificate_source": "acme",
        "haproxy_acme_peers": ["192.0.2.12", "2001:db8::12"],
        "haproxy_cloudflare_enabled": True,
        "haproxy_stats_password_hash": "$5$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "haproxy_metrics_address": "::1",
    },
    {"haproxy_metrics_port": 0, "haproxy_hsts_max_age": 0, "haproxy_bind_addresses": ["0.0.0.0"]},
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_configuration_has_no_error_and_no_warning(edge: Edge, tmp_path: Path, variant: dict[str, Any]) -> None:
    (tmp_path / "play.yml").write_text(PLAY.format(role=ROLE, directory=tmp_path))
    extra = COMMON | variant | {"ansible_python_interpreter": sys.executable}
    extra |= {"__haproxy_certificate_file": str(edge.certificate), "__haproxy_cloudflare_file": str(edge.list)}
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        json.dumps(extra),
    ]
    rendered = subprocess.run([*command, str(tmp_path / "play.yml")], capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stdout + rendered.stderr
    config = tmp_path / "haproxy.cfg"
    # -dW: a warning, for example of something deprecated, is an error.
    checked = subprocess.run(
        [EXECUTABLE, "-dW", "-c", "-f", str(config), "-f", str(edge.path)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    # One line of the log is one object, whatever is in it.
    line = re.search(r"^    log-format '(.*)'$", config.read_text(), re.MULTILINE)
    assert line
    filled = re.sub(r"%\[[^\]]*\]|%[A-Za-z]+", "0", line[1].replace(",json(utf8s)", ""))
    assert json.loads(filled)["status"] == 0

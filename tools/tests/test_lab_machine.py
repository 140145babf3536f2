"""Hosts inherit what they need to reach what the machine reaches, and nothing that is on its disk only."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.linkrift_lab import machine
from ansible.module_utils.linkrift_lab.errors import LabError
from ansible.module_utils.linkrift_lab.machine import Source

DEB822 = """\
# a comment
Types: deb deb-src
# another one
URIs: http://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/x.gpg

Types: deb
URIs: http://mirror.example/security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example
Suites: bookworm
Components: main
"""


def block(text: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


def test_reads_both_formats_of_sources() -> None:
    texts = {
        "debian.sources": DEB822,
        "other.list": "# deb http://no.example x main\ndeb [arch=amd64] https://cloud.example/apt cloud-sdk main # 1\n",
        "notes.txt": "deb http://no.example bookworm main",
    }
    assert machine.parse_sources(texts) == [
        Source("http://mirror.example/debian/", "bookworm", "main contrib"),
        Source("http://mirror.example/debian/", "bookworm-updates", "main contrib"),
        Source("http://mirror.example/security", "bookworm-security", "main"),
        Source("https://cloud.example/apt", "cloud-sdk", "main"),
    ]


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_hosts_use_the_machines_mirror_with_their_own_suite(suite: str) -> None:
    sources = machine.parse_sources({"debian.sources": DEB822, "x.list": "deb https://cloud.example cloud-sdk main"})
    assert machine.sources_for(suite, sources, "bookworm") == [
        Source("http://mirror.example/debian", suite, "main"),
        Source("http://mirror.example/debian", f"{suite}-updates", "main"),
        Source("http://mirror.example/security", f"{suite}-security", "main"),
    ]


def test_a_machine_of_another_kind_names_a_debian_mirror() -> None:
    sources = [Source("http://archive.ubuntu.example/ubuntu", "noble", "main universe")]
    assert machine.sources_for("trixie", sources, "", "http://mirror.example/debian/") == [
        Source("http://mirror.example/debian", "trixie", "main"),
        Source("http://mirror.example/debian", "trixie-updates", "main"),
    ]
    with pytest.raises(LabError, match="LINKRIFT_DEBIAN_MIRROR"):
        machine.sources_for("trixie", sources, "")


def test_only_what_hosts_need_of_apts_settings() -> None:
    dump = 'Acquire::http::Proxy "http://proxy:3128";\nAcquire::https "";\nDir "/";\nAcquire::Check-Date "false";\n'
    kept = 'Acquire::http::Proxy "http://proxy:3128";\nAcquire::Check-Date "false";\n'
    assert machine.apt_settings(dump) == kept


def test_name_servers_are_the_machines(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 192.0.2.53\n")
    assert machine.resolv_conf(tmp_path) == "nameserver 192.0.2.53\n"


def test_name_servers_are_the_ones_behind_the_machines_stub(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "run/systemd/resolve").mkdir(parents=True)
    (tmp_path / "run/systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.53\n")
    assert machine.resolv_conf(tmp_path) == "nameserver 192.0.2.53\n"


def test_only_authorities_that_a_plain_debian_lacks(tmp_path: Path) -> None:
    (tmp_path / "etc/ssl/certs").mkdir(parents=True)
    (tmp_path / "etc/ssl/certs/ca-certificates.crt").write_text(block("usual") + block("ours"))
    (tmp_path / "usr/local/share/ca-certificates").mkdir(parents=True)
    (tmp_path / "usr/local/share/ca-certificates/ours.crt").write_text(block("ours") + block("another"))
    found = machine.extra_authorities(tmp_path, known=block("usual"))
    assert found == [block("another"), block("ours")]


def test_environment_of_hosts_is_proxies_and_the_usual_bundle() -> None:
    environment = {
        "https_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "http_proxy": "",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        "REQUESTS_CA_BUNDLE": "/home/someone/bundle.pem",
        "HOME": "/root",
    }
    assert machine.environment_lines(environment) == (
        'NO_PROXY="localhost"\nSSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt"\nhttps_proxy="http://proxy:3128"\n'
    )


def test_pip_of_hosts_knows_indexes_but_no_directories() -> None:
    files = [
        "[global]\nindex-url = https://one.example/simple\nextra-index-url = file:///opt/x https://two.example/simple\n",
        "[global]\nfind_links = /opt/wheels\nconstraint = /etc/c.txt\ntrusted-host = one.example\n",
    ]
    assert machine.pip_settings(files) == (
        "[global]\nextra-index-url = https://two.example/simple\nindex-url = https://one.example/simple\n"
        "trusted-host = one.example\n"
    )


def test_pip_of_hosts_takes_the_environments_word_over_the_files(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/pip.conf").write_text("[global]\nindex-url = https://one.example/simple\n")
    environment = {"PIP_INDEX_URL": "https://two.example/simple", "PIP_NO_INPUT": "1"}
    settings = machine.machine_pip_settings(environment, tmp_path)
    assert settings == "[global]\nindex-url = https://two.example/simple\n"


def test_pip_of_hosts_has_no_file_when_there_is_nothing_to_say() -> None:
    assert machine.pip_settings(["[install]\nuser = true\n"]) == ""

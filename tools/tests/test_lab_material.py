"""Secrets and certificates are made once, complete, and good for the hosts that the lab has."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tools.lab import LabToolError, __main__, authority, material, passwords, release
from tools.lab.files import write_private

INVENTORY = """\
all:
  hosts:
    lb1: {linkrift_address: 198.18.7.11, linkrift_address6: "fd6c:696e:6b72:7::11"}
    data1: {linkrift_address: 198.18.7.31, linkrift_address6: "fd6c:696e:6b72:7::31"}
  children:
    balancers: {hosts: {lb1: {}}}
    postgresql_hosts: {hosts: {data1: {}}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/hosts.yml").write_text(INVENTORY)
    return tmp_path


def names(file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def test_secrets_are_made_once(tmp_path: Path) -> None:
    new = passwords.ensure_secrets(tmp_path)
    first = (tmp_path / "secrets.yml").read_text()
    assert passwords.ensure_secrets(tmp_path) == []
    assert (tmp_path / "secrets.yml").read_text() == first
    values = yaml.safe_load(first)
    assert sorted(values) == sorted(new)
    assert len(set(values.values())) == len(values)
    assert len(values["jwt_secret"]) >= 43
    assert (tmp_path / "secrets.yml").stat().st_mode & 0o777 == 0o600


def test_a_new_kind_of_secret_joins_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "secrets.yml").write_text("redis_api_password: kept\nof_another_release: kept\n")
    new = passwords.ensure_secrets(tmp_path)
    values = yaml.safe_load((tmp_path / "secrets.yml").read_text())
    assert values["redis_api_password"] == values["of_another_release"] == "kept"
    assert "redis_api_password" not in new
    assert values["jwt_secret"]


def test_a_damaged_file_of_secrets_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "secrets.yml").write_text("- nonsense\n")
    with pytest.raises(LabToolError, match="holds no secrets"):
        passwords.ensure_secrets(tmp_path)
    assert (tmp_path / "secrets.yml").read_text() == "- nonsense\n"


def test_a_lab_gets_what_it_needs_and_then_nothing_more(lab: Path) -> None:
    assert {"ca", "tls/public", "tls/postgresql", "tls/bundles", "jwt_secret"} <= set(material.ensure_material(lab))
    assert material.ensure_material(lab) == []
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (lab / "tls").iterdir()} == {
        f"{name}.{kind}": mode
        for name in ("public", "postgresql", "redis", "clickhouse", "services", "bundles")
        for kind, mode in (("pem", "0o644"), ("key", "0o600"))
    }


def test_certificates_name_what_is_asked_for(lab: Path) -> None:
    material.ensure_material(lab)
    public = names(lab / "tls/public.pem")
    assert {"linkrift.test", "go.linkrift.test", "api.linkrift.test", "198.18.7.11"} <= set(public)
    assert {"db.linkrift.internal", "data1", "198.18.7.31"} <= set(names(lab / "tls/postgresql.pem"))
    assert names(lab / "tls/services.pem") == [
        f"{service}.services.linkrift.internal" for service in ("api", "redirect", "worker")
    ]
    assert names(lab / "tls/bundles.pem") == ["bundles.linkrift.internal"]


def test_certificates_hold_by_the_strictest_rules(lab: Path) -> None:
    material.ensure_material(lab)
    for name in ("public", "postgresql", "redis", "clickhouse", "services", "bundles"):
        subprocess.run(
            ["openssl", "verify", "-x509_strict", "-CAfile", str(lab / "ca.pem"), str(lab / f"tls/{name}.pem")],
            check=True,
            capture_output=True,
        )
        ssl.create_default_context().load_cert_chain(lab / f"tls/{name}.pem", lab / f"tls/{name}.key")


def test_a_host_with_another_address_gets_another_certificate(lab: Path) -> None:
    material.ensure_material(lab)
    (lab / "inventory/hosts.yml").write_text(INVENTORY.replace("198.18.7.11", "198.18.7.12"))
    assert material.ensure_material(lab) == ["tls/public"]


def test_a_lost_authority_makes_all_certificates_new(lab: Path) -> None:
    material.ensure_material(lab)
    (lab / "ca.key").unlink()
    assert material.ensure_material(lab) == [
        "ca",
        "tls/public",
        "tls/postgresql",
        "tls/redis",
        "tls/clickhouse",
        "tls/services",
        "tls/bundles",
    ]


def test_a_key_of_another_certificate_is_noticed(lab: Path) -> None:
    material.ensure_material(lab)
    (lab / "tls/public.key").write_bytes((lab / "tls/bundles.key").read_bytes())
    assert material.ensure_material(lab) == ["tls/public"]


def test_a_certificate_is_renewed_before_its_time_is_over(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    material.ensure_material(lab)
    later = authority._now() + datetime.timedelta(days=authority._SERVER_DAYS - 20)
    monkeypatch.setattr(authority, "_now", lambda: later)
    assert material.ensure_material(lab) == [
        "tls/public",
        "tls/postgresql",
        "tls/redis",
        "tls/clickhouse",
        "tls/services",
        "tls/bundles",
    ]


def test_the_authority_signs_servers_only(tmp_path: Path) -> None:
    signer, _ = authority.ensure_authority(tmp_path)
    assert signer.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    key = serialization.load_pem_private_key((tmp_path / "ca.key").read_bytes(), password=None)
    assert key.public_key() == signer.certificate.public_key()
    authority.ensure_certificate(signer, tmp_path, "x", ["x.test"], [ip_address("192.0.2.1")])
    certificate = x509.load_pem_x509_certificate((tmp_path / "tls/x.pem").read_bytes())
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_lab_without_hosts_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(LabToolError, match="create the lab first"):
        material.ensure_material(tmp_path)


def test_the_command_says_what_is_new(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["material", "--dir", str(lab)]) == 0
    assert "tls/public\n" in capsys.readouterr().out
    assert __main__.main(["material", "--dir", str(lab)]) == 0
    assert capsys.readouterr().out == ""
    assert __main__.main(["material", "--dir", str(lab / "nothing")]) == 1
    assert "create the lab first" in capsys.readouterr().err


def test_reads_the_builders_last_line() -> None:
    built = release.parse('noise\n{"id": "1.0+abc", "path": "/d/x.tar.gz", "tree": "/d/x", "more": 1}\n')
    assert built == release.Bundle("1.0+abc", Path("/d/x.tar.gz"), Path("/d/x"))


@pytest.mark.parametrize("output", ["", "no json", "[]", '{"id": "1"}'])
def test_a_builder_that_names_no_bundle_is_an_error(output: str) -> None:
    with pytest.raises(LabToolError, match="names no bundle"):
        release.parse(output)


def test_notes_a_release_once(tmp_path: Path) -> None:
    bundle = release.Bundle("1.0+abc", Path("/d/x.tar.gz"), Path("/d/x"))
    assert release.note(tmp_path, bundle)
    assert not release.note(tmp_path, bundle)
    assert '"id": "1.0+abc"' in (tmp_path / "release.json").read_text()


def test_a_private_file_is_never_open_to_others(tmp_path: Path) -> None:
    write_private(tmp_path / "new" / "file", b"secret")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new/file").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new/file").read_bytes() == b"secret"


def test_visitors_come_to_what_two_balancers_share(lab: Path) -> None:
    assert material.lab_hosts(lab).visitors() == (ip_address("198.18.7.11"), ip_address("fd6c:696e:6b72:7::11"))
    two = INVENTORY.replace("{hosts: {lb1: {}}}", "{hosts: {lb1: {}, lb2: {}}}")
    (lab / "inventory/hosts.yml").write_text(two)
    shared = material.lab_hosts(lab).visitors()
    assert shared == (ip_address("198.18.7.10"), ip_address("fd6c:696e:6b72:7::10"))
    (lab / "inventory/hosts.yml").write_text(INVENTORY.replace("balancers", "others"))
    with pytest.raises(LabToolError, match="no balancer"):
        material.lab_hosts(lab).visitors()


def test_the_inventory_has_the_addresses_that_the_tools_tell() -> None:
    settings = yaml.safe_load((material.VARIABLES.parent / "settings.yml").read_text())
    template = Templar(
        loader=DataLoader(),
        variables={
            "groups": {"balancers": ["lb1", "lb2"]},
            "linkrift_address": "198.18.7.21",
            "linkrift_address6": "fd6c:696e:6b72:7::21",
        },
    )
    value = template.template(trust_as_template(settings["linkrift_shared_addresses"]))
    assert value == ["198.18.7.10", "fd6c:696e:6b72:7::10"]

"""What an installation says of TLS between balancers and services becomes what both get: rendered as Ansible does."""

from __future__ import annotations

from typing import Any

import pytest

from tools.testing.templating import ROOT, load, render, role_variables

SERVICES = ("api", "redirect", "worker")
HOSTS = {
    "groups": {"api_hosts": ["app1"], "redirect_hosts": ["app1"]},
    "hostvars": {"app1": {"linkrift_address": "192.0.2.1"}},
    "group_names": [],
    "inventory_hostname": "app1",
    "linkrift_address": "192.0.2.1",
    "linkrift_domain": "example.com",
    "linkrift_certificates": {"services": {"certificate": "a certificate", "private_key": "its key"}},
}


def site(**more: Any) -> dict[str, Any]:
    """Return the variables of an installation, with others on top."""
    return {**load(ROOT / "playbooks/group_vars/all.yml"), **HOSTS, **more}


def pinned(service: str, **more: Any) -> dict[str, Any]:
    """Return what role service puts into a service's environment by itself."""
    own = {"service_name": service, "service_environment": {}, "service_secrets": {}}
    variables = {**role_variables("service"), **site(), **own, **more}
    return dict(render("{{ __service_variables }}", variables))


@pytest.mark.parametrize("tls", [{}, {"linkrift_tls": {"redis": True}}, {"linkrift_tls": {"services": False}}])
def test_nothing_changes_where_nobody_asked_for_it(tls: dict[str, Any]) -> None:
    # Not even an inventory without the certificate: it is not looked at.
    variables = site(**tls, linkrift_certificates={})
    assert render("{{ [service_tls_certificate, service_tls_private_key] }}", variables) == ["", ""]
    assert [entry["tls"] for entry in render("{{ haproxy_services }}", variables).values()] == [{}, {}]
    assert pinned("api", **tls) == {"LINKRIFT_API_HOST": "192.0.2.1"}


def test_balancers_verify_the_name_that_the_slots_certificate_has() -> None:
    tls = {"linkrift_tls": {"services": True}, "linkrift_internal_domain": "inside.example.com"}
    variables = site(**tls)
    assert render("{{ [service_tls_certificate, service_tls_private_key] }}", variables) == ["a certificate", "its key"]
    backends = render("{{ haproxy_services }}", variables)
    asked = load(ROOT / "playbooks/vars/preflight.yml")
    wanted = render("{{ preflight_needs.certificates.services }}", {**variables, **asked})
    assert wanted == [f"{service}.services.inside.example.com" for service in SERVICES]
    for service in SERVICES:
        name = f"{service}.services.inside.example.com"
        assert pinned(service, **tls) == {
            f"LINKRIFT_{service.upper()}_HOST": "192.0.2.1",
            "LINKRIFT_TLS_CERTIFICATE": "/etc/linkrift/tls/services.pem",
            "LINKRIFT_TLS_PRIVATE_KEY": "/etc/linkrift/tls/services.key",
            "LINKRIFT_TLS_NAME": name,
        }
        if service in backends:
            assert backends[service]["tls"] == {"ca_file": "/etc/linkrift/tls/ca.pem", "verify_host": name}


def test_preflight_asks_for_the_certificate_only_where_it_is_shown() -> None:
    asked = load(ROOT / "playbooks/vars/preflight.yml")
    for tls in ({}, {"services": False, "redis": True}):
        wanted = render("{{ preflight_needs.certificates }}", {**site(linkrift_tls=tls), **asked})
        assert "services" not in wanted

"""Preflight reads the certificates that the metrics of each host are about."""

from __future__ import annotations

from tools.testing.templating import ROOT, load


def test_preflight_and_metrics_look_for_the_same_files() -> None:
    needs = load(ROOT / "playbooks/vars/preflight.yml")["preflight_needs"]
    role = ROOT / "collections/ansible_collections/linkrift/platform/roles/certificate_metrics"
    defaults = load(role / "defaults/main.yml")
    assert needs["installed_certificates"] == defaults["certificate_metrics_paths"]

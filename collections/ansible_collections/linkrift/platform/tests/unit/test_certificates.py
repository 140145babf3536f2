# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reading certificates, and bringing them into HAProxy."""

from __future__ import annotations

import datetime
import json
import runpy
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.linkrift.platform.plugins.module_utils import _certificates, _haproxy_certificate
from ansible_collections.linkrift.platform.plugins.module_utils._certificates import CertificateError, read_chain
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy_certificate import (
    Bundle,
    Deployment,
    check_bundle,
    describe,
    make_placeholder,
    read_bundle,
)
from ansible_collections.linkrift.platform.plugins.modules import (
    certificate_info,
    certificate_metrics,
    haproxy_certificate,
)
from ansible_collections.linkrift.platform.tests.unit.certificate_fakes import NOW, FakeHaproxy, Made, fingerprint, make

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def start(module: Any, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        said = capsys.readouterr().out
        assert "BEGIN PRIVATE KEY" not in said
        return cast("dict[str, Any]", json.loads(said))

    return start


def bundle_of(made: Made, *issuers: Made) -> Bundle:
    return read_bundle(made.pem + "".join(issuer.pem for issuer in issuers), made.key_pem())


def test_certificate_is_read_as_haproxy_shows_it() -> None:
    made = make("go.example.com", ["go.example.com", "*.Example.org"])
    found = read_chain("text around it\n" + made.pem)[0]
    assert found.subject == "CN=go.example.com"
    assert found.serial == f"{made.certificate.serial_number:X}".zfill(len(found.serial))
    assert found.fingerprint == fingerprint(made.pem)
    assert found.names == ("go.example.com", "*.example.org")
    assert found.not_after == made.certificate.not_valid_after_utc
    assert found.days_left(NOW) == 90


@pytest.mark.parametrize(
    ("name", "covered"),
    [
        ("go.example.com", True),
        ("GO.example.com", True),
        ("a.example.org", True),
        ("a.b.example.org", False),
        ("example.org", False),
    ],
)
def test_names_are_covered_directly_or_by_a_wildcard(name: str, covered: bool) -> None:
    found = read_chain(make("go.example.com", ["go.example.com", "*.example.org"]).pem)[0]
    assert found.covers(name) is covered


def test_chain_is_in_order_and_without_its_root() -> None:
    root = make("root")
    middle = make("middle", issuer=root)
    leaf = make(issuer=middle)
    bundle = bundle_of(leaf, middle, root)
    assert [each.subject for each in bundle.chain] == ["CN=go.example.com", "CN=middle"]
    assert "\n\n" not in bundle.text
    assert bundle.text == leaf.pem + middle.pem + leaf.key_pem()
    with pytest.raises(
        CertificateError, match=r"out of order: after the certificate for CN=go.example.com comes .*CN=root"
    ):
        bundle_of(leaf, root, middle)


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("nothing", "", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", "openssl x509"),
        (None, "", "no private keys"),
        (None, "two", "2 private keys"),
        (None, "locked", "passphrase"),
        (None, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "cannot be read"),
        (None, "other", "does not belong to the certificate for CN=go.example.com"),
    ],
)
def test_what_is_no_pair_is_refused(certificate: str | None, key: str, words: str) -> None:
    made = make()
    keys = {"two": made.key_pem() * 2, "locked": made.key_pem(b"secret"), "other": make().key_pem()}
    with pytest.raises(CertificateError, match=words):
        read_bundle(certificate or made.pem, keys.get(key, key))


def test_time_and_names_are_looked_at() -> None:
    check_bundle(bundle_of(make()), ["go.example.com"], NOW)
    with pytest.raises(CertificateError, match="expired on"):
        check_bundle(bundle_of(make(days=-1, since=-9)), [], NOW)
    with pytest.raises(CertificateError, match=r"valid from .* only; is the clock right"):
        check_bundle(bundle_of(make(since=1)), [], NOW)
    with pytest.raises(CertificateError, match=r"not for api.example.com; it is for go.example.com"):
        check_bundle(bundle_of(make()), ["go.example.com", "api.example.com"], NOW)
    root = make("root", days=-1, since=-9)
    with pytest.raises(CertificateError, match="CN=root expired"):
        check_bundle(Bundle((*bundle_of(make(issuer=root)).chain, *read_chain(root.pem)), ""), [], NOW)


def test_openssl_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_certificates, "_OPENSSL", "/nowhere/openssl")
    with pytest.raises(CertificateError, match="not installed"):
        read_chain(make().pem)


def test_placeholder_can_be_told_from_a_certificate() -> None:
    placeholder = make_placeholder(["go.example.com", "api.example.com"])
    assert placeholder.is_placeholder
    assert placeholder.certificate.names == ("go.example.com", "api.example.com")
    assert not bundle_of(make()).is_placeholder
    assert "PRIVATE KEY" not in describe(placeholder)


class World:
    """A file, a HAProxy, and what was done to them."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "certs" / "linkrift.pem"
        self.haproxy = FakeHaproxy()
        self.checked: list[str] = []
        self.reloads = 0
        self.refused = ""
        self.reload_fails = False
        self.time = 0.0

    def check(self, candidate: Path) -> None:
        assert stat.S_IMODE(candidate.stat().st_mode) == 0o600
        self.checked.append(candidate.read_text())
        if self.refused:
            raise CertificateError(self.refused)

    def reload(self) -> None:
        self.reloads += 1
        if self.reload_fails:
            raise CertificateError("the unit is broken")
        self.haproxy.loaded[str(self.path)] = self.path.read_text()

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    @property
    def deployment(self) -> Deployment:
        return Deployment(
            self.path,
            cast("Any", self.haproxy),
            self.check,
            self.reload,
            clock=lambda: self.time,
            sleep=self.sleep,
        )

    def has(self, bundle: Bundle) -> bool:
        return self.path.read_text() == bundle.text == self.haproxy.loaded[str(self.path)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A HAProxy that runs with a certificate of before."""
    made = World(tmp_path)
    before = bundle_of(make())
    made.path.parent.mkdir(mode=0o700)
    made.path.write_text(before.text)
    made.path.chmod(0o600)
    made.haproxy.loaded[str(made.path)] = before.text
    return made


def test_renewal_needs_no_reload_and_happens_once(world: World) -> None:
    bundle = bundle_of(make())
    assert world.deployment.predict(bundle).changed
    outcome = world.deployment.apply(bundle)
    assert (outcome.changed, outcome.how, world.reloads) == (True, "runtime", 0)
    assert world.has(bundle)
    assert world.checked == [bundle.text]
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert list(world.path.parent.iterdir()) == [world.path]
    outcome = world.deployment.apply(bundle)
    assert (outcome.changed, outcome.how, world.haproxy.calls) == (False, "", ["load_certificate"])


def test_file_of_a_run_that_died_is_brought_into_the_process(world: World) -> None:
    bundle = bundle_of(make())
    world.path.write_text(bundle.text)
    foreseen = world.deployment.predict(bundle)
    assert (foreseen.changed, foreseen.how) == (True, "runtime")
    assert world.deployment.apply(bundle).changed
    assert world.has(bundle)


def test_first_certificate_of_a_host_without_haproxy(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.haproxy.running = False
    bundle = bundle_of(make())
    outcome = world.deployment.apply(bundle)
    assert (outcome.changed, outcome.how, outcome.running) == (True, "", False)
    assert world.path.read_text() == bundle.text
    assert stat.S_IMODE(world.path.parent.stat().st_mode) == 0o700


def test_haproxy_that_has_not_loaded_the_file_is_left_alone(world: World) -> None:
    world.haproxy.loaded.clear()
    outcome = world.deployment.apply(bundle_of(make()))
    assert (outcome.changed, outcome.how, world.haproxy.calls, world.reloads) == (True, "", [], 0)


@pytest.mark.parametrize("opened", ["path", "directory"])
def test_file_that_others_can_read_is_closed_again(world: World, opened: str) -> None:
    bundle = bundle_of(make())
    world.deployment.apply(bundle)
    (world.path if opened == "path" else world.path.parent).chmod(0o755)
    assert world.deployment.predict(bundle).changed
    outcome = world.deployment.apply(bundle)
    assert (outcome.changed, outcome.how) == (True, "")
    assert stat.S_IMODE(world.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.path.parent.stat().st_mode) == 0o700
    assert not world.deployment.apply(bundle).changed


def test_refused_candidate_changes_nothing(world: World) -> None:
    before = world.path.read_text()
    world.refused = "ee key too small"
    with pytest.raises(CertificateError, match="too small"):
        world.deployment.apply(bundle_of(make()))
    assert (world.path.read_text(), world.haproxy.calls) == (before, [])
    assert list(world.path.parent.iterdir()) == [world.path]


@pytest.mark.parametrize("fault", ["refuses", "forgets"])
def test_reload_where_the_way_without_one_fails(world: World, fault: str) -> None:
    setattr(world.haproxy, fault, True)
    bundle = bundle_of(make())
    outcome = world.deployment.apply(bundle)
    assert (outcome.changed, outcome.how, world.reloads) == (True, "reload", 1)
    assert outcome.said
    assert world.has(bundle)


def test_old_file_comes_back_when_no_way_works(world: World) -> None:
    before = world.path.read_text()
    world.haproxy.refuses = world.reload_fails = True
    with pytest.raises(
        CertificateError, match="does not take the certificate; then by a reload: the unit is broken; the old"
    ):
        world.deployment.apply(bundle_of(make()))
    assert world.path.read_text() == before


def test_reload_that_brings_nothing_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.haproxy.refuses = True
    monkeypatch.setattr(world, "reload", lambda: None)
    with pytest.raises(CertificateError, match="30 s after a reload, HAProxy shows another one"):
        world.deployment.apply(bundle_of(make()))


@pytest.fixture
def module_world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world as the module and the deploy hook find it."""
    for module in (haproxy_certificate, _haproxy_certificate):
        monkeypatch.setattr(module, "Haproxy", lambda _admin, _master: world.haproxy)
        monkeypatch.setattr(module, "check_with", lambda _executable: world.check)
        monkeypatch.setattr(module, "reload_with", lambda *_command: world.reload)
    return world


def test_module_tells_what_it_does(run: Run, module_world: World, tmp_path: Path) -> None:
    made = make()
    wanted: dict[str, Any] = {
        "path": str(module_world.path),
        "certificate": made.pem,
        "private_key": made.key_pem(),
        "names": ["go.example.com"],
        "lock_path": str(tmp_path / "lock"),
        "warn_days": 91,
    }
    foreseen = run(haproxy_certificate, **wanted, _ansible_check_mode=True)
    assert (foreseen["changed"], module_world.haproxy.calls) == (True, [])
    result = run(haproxy_certificate, **wanted)
    assert (result["changed"], result["how"], result["placeholder"]) == (True, "runtime", False)
    assert result["diff"] == foreseen["diff"]
    assert f"serial: {result['certificate']['serial']}\n" in result["diff"]["after"]
    assert result["certificate"]["days_left"] == 90
    assert "expires in 90 days" in json.dumps(result["warnings"])
    assert not run(haproxy_certificate, **wanted)["changed"]
    kept = run(haproxy_certificate, path=wanted["path"], placeholder=True, lock_path=wanted["lock_path"])
    assert (kept["changed"], kept["certificate"]) == (False, result["certificate"])
    failed = run(haproxy_certificate, **wanted | {"names": ["api.example.com"]})
    assert failed["failed"]
    assert failed["msg"].startswith("the certificate is not for api.example.com")


def test_module_makes_a_placeholder_where_nothing_useful_is(run: Run, module_world: World, tmp_path: Path) -> None:
    module_world.path.write_text("damaged")
    result = run(
        haproxy_certificate,
        path=str(module_world.path),
        placeholder=True,
        names=["go.example.com"],
        lock_path=str(tmp_path / "lock"),
    )
    assert (result["changed"], result["placeholder"], result["diff"]["before"]) == (True, True, "")


@pytest.mark.parametrize("given", [{}, {"certificate": "", "private_key": ""}])
def test_module_without_a_certificate_makes_no_placeholder(
    run: Run, module_world: World, tmp_path: Path, given: dict[str, Any]
) -> None:
    before = module_world.path.read_text()
    result = run(
        haproxy_certificate,
        path=str(module_world.path),
        names=["go.example.com"],
        lock_path=str(tmp_path / "lock"),
        **given,
    )
    assert result["failed"]
    assert "set certificate and private_key" in result["msg"]
    assert module_world.path.read_text() == before


def test_placeholder_for_nobody_is_refused() -> None:
    with pytest.raises(CertificateError, match="needs names"):
        make_placeholder([])


def test_module_takes_what_a_client_got(run: Run, module_world: World, tmp_path: Path) -> None:
    made = make()
    (tmp_path / "fullchain.pem").write_text(made.pem)
    (tmp_path / "privkey.pem").write_text(made.key_pem())
    given = {
        "path": str(module_world.path),
        "certificate_path": str(tmp_path / "fullchain.pem"),
        "private_key_path": str(tmp_path / "privkey.pem"),
        "lock_path": str(tmp_path / "lock"),
    }
    assert run(haproxy_certificate, **given)["how"] == "runtime"
    (tmp_path / "privkey.pem").unlink()
    assert "No such file" in run(haproxy_certificate, **given)["msg"]


def test_deploy_hook_does_the_same(module_world: World, tmp_path: Path) -> None:
    made = make()
    (tmp_path / "fullchain.pem").write_text(made.pem)
    (tmp_path / "privkey.pem").write_text(made.key_pem())
    words = [str(module_world.path), "admin", str(tmp_path / "lock")]
    environment = {"RENEWED_LINEAGE": str(tmp_path), "RENEWED_DOMAINS": "go.example.com"}
    status, said = _haproxy_certificate.hook(words, environment)
    assert (status, said.partition(" until ")[0]) == (0, f"{module_world.path}: runtime,")
    assert module_world.has(bundle_of(made))
    status, said = _haproxy_certificate.hook(words, environment | {"RENEWED_DOMAINS": "go.example.com other.example"})
    assert (status, "stays as it was: the certificate is not for other.example" in said) == (1, True)


def test_programs_that_refuse_are_quoted(tmp_path: Path) -> None:
    refuses = tmp_path / "refuses"
    refuses.write_text("#!/bin/sh\necho no such key >&2\nexit 1\n")
    refuses.chmod(0o755)
    with pytest.raises(CertificateError, match="HAProxy refuses the certificate: no such key"):
        _haproxy_certificate.check_with(str(refuses))(tmp_path / "x")
    with pytest.raises(CertificateError, match="failed: no such key"):
        _haproxy_certificate.reload_with(str(refuses))()
    with pytest.raises(CertificateError, match="is its package installed"):
        _haproxy_certificate.check_with(str(tmp_path / "missing"))(tmp_path / "x")
    _haproxy_certificate.check_with("/bin/true")(tmp_path / "x")
    _haproxy_certificate.reload_with("/bin/true")()


def test_programs_that_hang_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_options: object) -> None:
        raise subprocess.TimeoutExpired(command, 30)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(CertificateError, match="haproxy -c -f /dev/stdin did not end within 30 s"):
        _haproxy_certificate.check_with("haproxy")(tmp_path / "x")
    with pytest.raises(CertificateError, match="systemctl reload did not end within 60 s"):
        _haproxy_certificate.reload_with("systemctl", "reload")()


def test_info_answers_for_files_and_texts(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_text(make(days=5).pem)
    (tmp_path / "b.pem").write_text("nothing")
    result = run(
        certificate_info,
        paths=[f"{tmp_path}/*.pem", f"{tmp_path}/missing"],
        contents={"public": make(days=-3, since=-9).pem, "wrong": "x"},
    )
    found = {Path(entry["path"]).name: entry for entry in result["certificates"]}
    assert {name: entry["days_left"] for name, entry in found.items()} == {
        "a.pem": 5,
        "b.pem": None,
        "public": -3,
        "wrong": None,
    }
    assert found["a.pem"]["error"] == ""
    assert "no certificate" in found["b.pem"]["error"]
    assert found["public"]["subject"] == "CN=go.example.com"


def test_metrics_are_what_prometheus_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make('go "x" \\ y')
    (tmp_path / "a.pem").write_text(made.pem)
    (tmp_path / "b.pem").write_text("nothing")
    output = tmp_path / "out.prom"
    assert _certificates.main([str(output), f"{tmp_path}/*.pem"]) == 0
    text = output.read_text()
    until = int(made.certificate.not_valid_after_utc.timestamp())
    assert f'linkrift_certificate_expiry_seconds{{path="{tmp_path}/a.pem",subject="CN=go \\\\\\"x\\\\\\" ' in text
    assert f"}} {until}\n" in text
    assert f'linkrift_certificate_unreadable{{path="{tmp_path}/b.pem"}} 1\n' in text
    assert "b.pem: no certificate" in capsys.readouterr().err
    assert stat.S_IMODE(output.stat().st_mode) == 0o644


SYSTEMCTL = """\
#!/bin/sh
cd "$(dirname "$0")" && echo "$*" >> calls
case "$1" in
    is-*) test -e active ;;
    enable) touch active ;;
    start) test ! -e dies && touch textfiles/out.prom ;;
    show) echo "NeedDaemonReload=no\n\nNeedDaemonReload=$(test -e stale && echo yes || echo no)" ;;
    daemon-reload) rm -f stale ;;
esac
"""


def test_metrics_module_installs_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    given: dict[str, Any] = {
        "paths": ["/etc/haproxy/certs/*.pem"],
        "output": str(tmp_path / "textfiles/out.prom"),
        "program": str(tmp_path / "lib/certificates.py"),
        "unit_directory": str(tmp_path / "units"),
    }
    foreseen = run(certificate_metrics, **given, _ansible_check_mode=True)
    assert foreseen["changed"]
    assert not (tmp_path / "units").exists()
    result = run(certificate_metrics, **given)
    assert result["diff"] == foreseen["diff"]
    assert len(result["written"]) == 3
    # What hosts run is this file, and it runs alone.
    monkeypatch.setattr(sys, "argv", ["certificates.py", given["output"], "/nowhere/*.pem"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(given["program"], run_name="__main__")
    assert ended.value.code == 0
    assert not run(certificate_metrics, **given)["changed"]
    (tmp_path / "active").unlink()
    assert run(certificate_metrics, **given)["changed"]
    assert "start linkrift-certificates.service" in (tmp_path / "calls").read_text()
    assert not run(certificate_metrics, **given)["changed"]
    # A run that died before systemd had read the units, or before the first report, is made good.
    (tmp_path / "stale").touch()
    assert run(certificate_metrics, **given)["changed"]
    assert not (tmp_path / "stale").exists()
    (tmp_path / "dies").touch()
    assert run(certificate_metrics, **given | {"paths": ["/etc/redis/*.pem"]})["failed"]
    (tmp_path / "dies").unlink()
    assert run(certificate_metrics, **given | {"paths": ["/etc/redis/*.pem"]})["changed"]
    assert not run(certificate_metrics, **given | {"paths": ["/etc/redis/*.pem"]})["changed"]
    assert "no absolute path" in run(certificate_metrics, **given | {"paths": ["/etc/a b"]})["msg"]


def test_times_are_utc() -> None:
    assert (
        _certificates.iso(datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc))
        == "2026-01-02T03:04:05Z"
    )

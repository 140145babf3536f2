# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.linkrift.platform.plugins.module_utils import _bundle_source
from ansible_collections.linkrift.platform.plugins.module_utils._bundle import (
    MANIFEST,
    SUMS,
    BundleError,
    parse_listing,
)
from ansible_collections.linkrift.platform.plugins.module_utils._bundle_source import missing_of, open_source
from ansible_collections.linkrift.platform.tests.unit.release_fakes import TinyBundle, tiny_bundle

WHEEL = "wheels/linkrift-1.0-py3-none-any.whl"


@pytest.fixture
def bundle(tmp_path: Path) -> TinyBundle:
    return tiny_bundle(tmp_path)


def digests_of(bundle: TinyBundle) -> dict[str, str]:
    return parse_listing((bundle.tree / SUMS).read_bytes())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate that is its own authority, with its key, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bundle store")])
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
                **usage,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(built.public_bytes(serialization.Encoding.PEM) + private)
    return path


class StoreServer:
    """A bundle store on loopback that can misbehave."""

    def __init__(self, root: Path, certificate: Path) -> None:
        self.cut_short = 0
        self.redirect = False
        self.requests: list[str] = []
        store = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(root))

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                store.requests.append(self.path)
                if store.redirect:
                    self.send_response(302)
                    self.send_header("Location", "https://127.0.0.1:1/")
                    self.end_headers()
                elif store.cut_short:
                    store.cut_short -= 1
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"short")
                else:
                    super().do_GET()

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def store(bundle: TinyBundle, tmp_path: Path, certificate: Path) -> Iterator[StoreServer]:
    root = tmp_path / "store"
    root.mkdir()
    (root / bundle.release).symlink_to(bundle.tree)
    store = StoreServer(root, certificate)
    thread = threading.Thread(target=store.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield store
    store.server.shutdown()
    thread.join()
    store.server.server_close()


@pytest.mark.parametrize("kind", ["tree", "directory of trees", "archive", "flat archive", "store"])
def test_every_source_gives_the_same(
    kind: str, bundle: TinyBundle, tmp_path: Path, store: StoreServer, certificate: Path
) -> None:
    locations = {
        "tree": lambda: str(bundle.tree),
        "directory of trees": lambda: str(tmp_path / "store"),
        "archive": lambda: str(bundle.archive(tmp_path / "bundle.tar.gz")),
        "flat archive": lambda: str(bundle.archive(tmp_path / "bundle.tar.gz", inside="")),
        "store": lambda: f"{store.url}/",
    }
    source = open_source(locations[kind](), bundle.release, str(certificate), 10)
    assert source.text(SUMS) == (bundle.tree / SUMS).read_bytes()
    into = tmp_path / "into"
    source.collect([WHEEL, MANIFEST], digests_of(bundle), into)
    assert (into / WHEEL).read_bytes() == (bundle.tree / WHEEL).read_bytes()
    assert sorted(path.name for path in into.rglob("*") if path.is_file()) == [
        "linkrift-1.0-py3-none-any.whl",
        MANIFEST,
    ]


@pytest.mark.parametrize("kind", ["tree", "archive", "store"])
def test_an_altered_file_never_appears(
    kind: str, bundle: TinyBundle, tmp_path: Path, store: StoreServer, certificate: Path
) -> None:
    digests = digests_of(bundle)
    (bundle.tree / WHEEL).write_bytes(b"altered")
    archive = str(bundle.archive(tmp_path / "bundle.tar.gz"))
    location = {"tree": str(bundle.tree), "archive": archive, "store": store.url}[kind]
    source = open_source(location, bundle.release, str(certificate), 10)
    with pytest.raises(BundleError, match=f"{WHEEL} of release .* is altered"):
        source.collect([WHEEL], digests, tmp_path / "into")
    assert not any(path.is_file() for path in (tmp_path / "into").rglob("*"))


@pytest.mark.parametrize("kind", ["tree", "archive", "store"])
def test_a_missing_file_is_named(
    kind: str, bundle: TinyBundle, tmp_path: Path, store: StoreServer, certificate: Path
) -> None:
    digests = digests_of(bundle)
    (bundle.tree / WHEEL).unlink()
    archive = str(bundle.archive(tmp_path / "bundle.tar.gz"))
    location = {"tree": str(bundle.tree), "archive": archive, "store": store.url}[kind]
    source = open_source(location, bundle.release, str(certificate), 10)
    with pytest.raises(BundleError, match=WHEEL):
        source.collect([WHEEL], digests, tmp_path / "into")
    with pytest.raises(BundleError, match="nothing"):
        source.text("nothing")


def test_a_damaged_archive_is_an_error(bundle: TinyBundle, tmp_path: Path) -> None:
    archive = bundle.archive(tmp_path / "bundle.tar.gz")
    archive.write_bytes(archive.read_bytes()[:2000])
    source = open_source(str(archive), bundle.release, None, 10)
    with pytest.raises(BundleError, match=r"bundle\.tar\.gz cannot be read"):
        source.collect([WHEEL], digests_of(bundle), tmp_path / "into")
    archive.write_bytes(b"no archive at all")
    with pytest.raises(BundleError, match=r"bundle\.tar\.gz cannot be read"):
        source.text(SUMS)


@pytest.mark.parametrize("location", ["http://bundles/", "ftp://bundles/", "/nonexistent"])
def test_other_places_are_refused(location: str) -> None:
    with pytest.raises(BundleError, match=r"HTTPS only|no bundle at"):
        open_source(location, "1.0+000000000000", None, 10)


def test_a_store_that_is_not_trusted_is_not_asked(bundle: TinyBundle, store: StoreServer) -> None:
    with pytest.raises(BundleError, match="CERTIFICATE_VERIFY_FAILED"):
        open_source(store.url, bundle.release, None, 10).text(SUMS)
    assert store.requests == []
    with pytest.raises(BundleError, match="correct ca_path"):
        open_source(store.url, bundle.release, "/nonexistent", 10)


def test_a_store_does_not_send_hosts_elsewhere(bundle: TinyBundle, store: StoreServer, certificate: Path) -> None:
    store.redirect = True
    with pytest.raises(BundleError, match="answers 302"):
        open_source(store.url, bundle.release, str(certificate), 10).text(SUMS)


@pytest.mark.usefixtures("_no_waiting")
def test_a_connection_may_break_but_not_always(
    bundle: TinyBundle, store: StoreServer, certificate: Path, tmp_path: Path
) -> None:
    source = open_source(store.url, bundle.release, str(certificate), 10)
    store.cut_short = 2
    source.collect([WHEEL], digests_of(bundle), tmp_path / "into")
    assert (tmp_path / "into" / WHEEL).is_file()
    store.cut_short = 3
    with pytest.raises(BundleError, match="IncompleteRead"):
        source.collect([MANIFEST], digests_of(bundle), tmp_path / "into")


@pytest.fixture
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.usefixtures("_no_waiting")
def test_nothing_listens(bundle: TinyBundle) -> None:
    with pytest.raises(BundleError, match="Connection refused"):
        open_source("https://127.0.0.1:1", bundle.release, None, 10).text(SUMS)


def test_the_deadline_is_for_everything(bundle: TinyBundle, store: StoreServer, certificate: Path) -> None:
    with pytest.raises(BundleError, match="not finished after 0 s"):
        open_source(store.url, bundle.release, str(certificate), 0).text(SUMS)


def test_what_is_too_large_is_no_bundle(bundle: TinyBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bundle_source, "LARGEST_TEXT", 10)
    monkeypatch.setattr(_bundle_source, "LARGEST_FILE", 10)
    source = open_source(str(bundle.tree), bundle.release, None, 10)
    with pytest.raises(BundleError, match="larger than 10 bytes"):
        source.text(SUMS)
    with pytest.raises(BundleError, match="larger than 10 bytes"):
        source.collect([WHEEL], digests_of(bundle), tmp_path / "into")


def test_what_was_fetched_before_counts_only_when_it_is_right(bundle: TinyBundle, tmp_path: Path) -> None:
    into = tmp_path / "into"
    digests = digests_of(bundle)
    open_source(str(bundle.tree), bundle.release, None, 10).collect([WHEEL, MANIFEST], digests, into)
    assert missing_of([WHEEL, MANIFEST], digests, into) == []
    (into / WHEEL).write_bytes(b"altered")
    assert missing_of([WHEEL, MANIFEST], digests, into) == [WHEEL]
    assert not (into / WHEEL).exists()

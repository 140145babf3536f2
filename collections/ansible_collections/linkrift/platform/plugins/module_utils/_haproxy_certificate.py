# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Give HAProxy another certificate, so that no connection ends and a run that dies anywhere can be repeated.

The running HAProxy is told first and the file is replaced last. So whoever comes after a run that died sees by the file
that something is left to do, and a certificate that HAProxy refuses never reaches the file.
"""

from __future__ import annotations

import contextlib
import datetime
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._certificates import (
    Certificate,
    CertificateError,
    check_names,
    check_order,
    check_pair,
    check_time,
    iso,
    now_utc,
    openssl,
    pem_blocks,
    read_chain,
)
from ansible_collections.linkrift.platform.plugins.module_utils._haproxy import (
    Haproxy,
    HaproxyDownError,
    HaproxyError,
    LoadedCertificate,
    Socket,
)
from ansible_collections.linkrift.platform.plugins.module_utils._paths import exclusive, is_ours, write_atomically

PLACEHOLDER = "placeholder until the first certificate is issued"
"""Common name of a certificate that no visitor can trust, which lets HAProxy start before there is a real one."""


@dataclass(frozen=True)
class Bundle:
    """A certificate with its chain and its key, as HAProxy wants them: one text without empty lines."""

    chain: tuple[Certificate, ...]
    key: str

    @property
    def certificate(self) -> Certificate:
        """The server's own certificate."""
        return self.chain[0]

    @property
    def text(self) -> str:
        """What is in the file."""
        return "".join(certificate.pem for certificate in self.chain) + self.key

    @property
    def is_placeholder(self) -> bool:
        """Whether no authority signed it and it only stands in for a real one."""
        return PLACEHOLDER in self.certificate.subject


def read_bundle(certificates: str, keys: str) -> Bundle:
    """Read a certificate with its chain, and the key that belongs to it.

    Raises:
        CertificateError: one is missing or does not belong to the other, or the chain is out of order.
    """
    chain = read_chain(certificates)
    found = pem_blocks(keys)[1]
    if len(found) != 1:
        raise CertificateError(f"{'no' if not found else len(found)} private keys in PEM form, one is needed")
    check_pair(chain[0], found[0])
    check_order(chain)
    # Visitors have the root, or do not trust it.
    while len(chain) > 1 and chain[-1].is_own_issuer:
        chain.pop()
    return Bundle(tuple(chain), found[0])


def check_bundle(bundle: Bundle, names: Sequence[str], now: datetime.datetime) -> None:
    """See that a certificate is good for visitors who come by these names now.

    Raises:
        CertificateError: it is not.
    """
    for certificate in bundle.chain:
        check_time(certificate, now)
    check_names(bundle.certificate, names)


def make_placeholder(names: Sequence[str]) -> Bundle:
    """Make a certificate that signed itself.

    Raises:
        CertificateError: there is no name, or openssl fails.
    """
    if not names:
        raise CertificateError("a placeholder needs names: say which host names it is for")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "365"]
    words += ["-keyout", "/dev/stdout", "-out", "/dev/stdout", "-subj", f"/CN={PLACEHOLDER}"]
    words += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    made = openssl(*words)
    return read_bundle(made, made)


def describe(bundle: Bundle | None) -> str:
    """Say in a few lines what a certificate is, for a diff."""
    if bundle is None:
        return ""
    certificate = bundle.certificate
    return "".join(
        f"{name}: {value}\n"
        for name, value in (
            ("subject", certificate.subject),
            ("names", ", ".join(certificate.names)),
            ("issuer", certificate.issuer),
            ("serial", certificate.serial),
            ("not after", iso(certificate.not_after)),
            ("chain", ", ".join(issuer.subject for issuer in bundle.chain[1:]) or "none"),
        )
    )


@dataclass(frozen=True)
class State:
    """What is there."""

    text: str | None
    """The file's text; None without a file."""
    running: bool
    loaded: LoadedCertificate | None
    """What the running HAProxy has under the file's name; None when it has not loaded such a file."""

    private: bool = True
    """Nobody else can read the file or its directory."""

    def bundle(self) -> Bundle | None:
        """Return what is in the file; None when that is nothing useful."""
        try:
            return read_bundle(self.text, self.text) if self.text else None
        except CertificateError:
            return None


@dataclass(frozen=True)
class Outcome:
    """What was done, or would be."""

    changed: bool
    how: str
    """How HAProxy got it: `runtime`, `reload`, or empty: it had it, or does not run with this file."""
    running: bool
    said: str = ""
    """Why the first way did not work."""


class Deployment:
    """Brings a certificate into the file and into the running HAProxy."""

    def __init__(
        self,
        path: Path,
        haproxy: Haproxy,
        check: Callable[[Path], None],
        reload: Callable[[], None],
        reload_timeout: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take what is needed.

        Args:
            path: the file that the configuration names.
            haproxy: the running HAProxy.
            check: lets HAProxy look at a candidate file; raises CertificateError when it refuses.
            reload: has HAProxy reloaded; raises CertificateError when that fails.
            reload_timeout: seconds until a reloaded HAProxy must show the certificate.
            clock: a clock that never goes back, in seconds.
            sleep: waits that many seconds.
        """
        self.path = path
        self.haproxy = haproxy
        self.check = check
        self.reload = reload
        self.reload_timeout = reload_timeout
        self.clock = clock
        self.sleep = sleep

    def state(self) -> State:
        """Look at the file and at the running HAProxy.

        Raises:
            HaproxyError: it runs, but does not answer.
            OSError: the file cannot be read.
        """
        try:
            text: str | None = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            text = None
        private = is_ours(self.path, 0o600) and is_ours(self.path.parent, 0o700)
        try:
            return State(text, running=True, loaded=self.haproxy.certificate(str(self.path)), private=private)
        except HaproxyDownError:
            return State(text, running=False, loaded=None, private=private)

    def predict(self, bundle: Bundle) -> Outcome:
        """Say what `apply` would do."""
        state = self.state()
        file_differs, process_differs = self._differences(state, bundle)
        changed = file_differs or process_differs or not state.private
        return Outcome(changed, "runtime" if process_differs else "", state.running)

    def apply(self, bundle: Bundle) -> Outcome:
        """Bring the certificate in.

        Raises:
            CertificateError: HAProxy refuses it both ways; the old file is back, and HAProxy goes on as before.
            HaproxyError: HAProxy does not answer.
            OSError: the file cannot be written.
        """
        state = self.state()
        file_differs, process_differs = self._differences(state, bundle)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file_differs:
            self._check(bundle)
        how, said = "", ""
        if state.loaded is not None and (file_differs or process_differs):
            try:
                self.haproxy.load_certificate(str(self.path), bundle.text)
                how = "runtime"
            except HaproxyError as error:
                how, said = "reload", str(error)
        if not state.private:
            self.path.parent.chmod(0o700)
        if file_differs or not state.private:
            write_atomically(self.path, bundle.text, 0o600)
        # A reload by somebody else, in between, may have read the old file.
        if how == "runtime" and not self._is_loaded(bundle):
            how, said = "reload", "HAProxy took the certificate and shows another one"
        if how == "reload":
            self._reload(bundle, state, said)
        return Outcome(file_differs or process_differs or not state.private, how, state.running, said)

    def _differences(self, state: State, bundle: Bundle) -> tuple[bool, bool]:
        process_differs = state.loaded is not None and state.loaded.fingerprint != bundle.certificate.fingerprint
        return state.text != bundle.text, process_differs

    def _is_loaded(self, bundle: Bundle) -> bool:
        try:
            loaded = self.haproxy.certificate(str(self.path))
        except HaproxyError:
            return False
        return loaded is not None and loaded.fingerprint == bundle.certificate.fingerprint

    def _check(self, bundle: Bundle) -> None:
        candidate = self.path.with_name(f".{self.path.name}.candidate")
        try:
            write_atomically(candidate, bundle.text, 0o600)
            self.check(candidate)
        finally:
            with contextlib.suppress(OSError):
                candidate.unlink(missing_ok=True)

    def _reload(self, bundle: Bundle, before: State, said: str) -> None:
        try:
            self.reload()
            end = self.clock() + self.reload_timeout
            while not self._is_loaded(bundle):
                if self.clock() >= end:
                    raise CertificateError(f"{self.reload_timeout:.0f} s after a reload, HAProxy shows another one")
                self.sleep(0.1)
        except CertificateError as error:
            if before.text is not None:
                write_atomically(self.path, before.text, 0o600)
            raise CertificateError(f"{said}; then by a reload: {error}; the old file is back") from error


CANDIDATE_CONFIG = """\
defaults
    mode http
    timeout client 1s
frontend candidate
    bind 127.0.0.1:65535 ssl crt {path}
"""


def check_with(executable: str) -> Callable[[Path], None]:
    """Return a check by HAProxy itself, which does not take every key: one that is too short, for example."""

    def check(candidate: Path) -> None:
        done = _run([executable, "-c", "-f", "/dev/stdin"], 30, CANDIDATE_CONFIG.format(path=candidate))
        if done.returncode != 0:
            raise CertificateError(f"HAProxy refuses the certificate: {' '.join(done.stderr.split())[:400]}")

    return check


def _run(command: Sequence[str], seconds: float, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program.

    Raises:
        CertificateError: it is missing, or did not end in time.
    """
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise CertificateError(f"{' '.join(command)} did not end within {seconds:.0f} s; run it by hand") from error
    except FileNotFoundError as error:
        raise CertificateError(f"{command[0]} is not on this host: is its package installed?") from error


def reload_with(*command: str) -> Callable[[], None]:
    """Return a reload by a command; HAProxy's unit looks at the configuration first."""

    def reload() -> None:
        done = _run(command, 60)
        if done.returncode != 0:
            raise CertificateError(
                f"{' '.join(command)} failed: {' '.join((done.stderr or done.stdout).split())[:300]}"
            )

    return reload


def hook(words: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """Bring in what an ACME client has just issued: its deploy hook.

    Args:
        words: the file, HAProxy's admin socket, the lock's file.
        environment: `RENEWED_LINEAGE` is the directory with fullchain.pem and privkey.pem, `RENEWED_DOMAINS` the names.

    Returns:
        The exit status, and a sentence for the client's log.
    """
    path, admin, lock = words
    lineage = Path(environment["RENEWED_LINEAGE"])
    try:
        bundle = read_bundle(
            (lineage / "fullchain.pem").read_text(encoding="utf-8"),
            (lineage / "privkey.pem").read_text(encoding="utf-8"),
        )
        check_bundle(bundle, environment.get("RENEWED_DOMAINS", "").split(), now_utc())
        deployment = Deployment(
            Path(path),
            Haproxy(Socket(admin), None),
            check_with("/usr/sbin/haproxy"),
            reload_with("systemctl", "reload", "haproxy.service"),
        )
        with exclusive(Path(lock), 120):
            outcome = deployment.apply(bundle)
    except (CertificateError, HaproxyError, OSError) as error:
        return 1, f"{path} stays as it was: {error}"
    return 0, f"{path}: {outcome.how or 'file'}, until {iso(bundle.certificate.not_after)}"

"""What lab hosts inherit from the machine: package sources, proxies, name servers, certificate authorities, pip.

A lab host must reach what the machine reaches, by the same way, or nothing can be installed in it.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_MIRROR_VARIABLE = "LINKRIFT_DEBIAN_MIRROR"
_APT_SETTINGS = (
    "Acquire::http",
    "Acquire::https",
    "Acquire::Check-Valid-Until",
    "Acquire::Check-Date",
    "Acquire::Max-FutureTime",
    "Acquire::ForceIPv4",
)
_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


@dataclass(frozen=True)
class Source:
    """One source of Debian packages.

    Attributes:
        uri: Root of the archive.
        suite: Its suite, such as `bookworm-updates`.
        components: Its components, separated by spaces.
    """

    uri: str
    suite: str
    components: str

    def line(self) -> str:
        """The line of sources.list."""
        return f"deb [signed-by={KEYRING}] {self.uri} {self.suite} {self.components}"


def parse_sources(texts: Mapping[str, str]) -> list[Source]:
    """Read apt's source files, both formats; source packages and disabled entries are left out.

    Args:
        texts: Content by file name; the name's ending tells the format.
    """
    found = []
    for name, text in sorted(texts.items()):
        if name.endswith(".sources"):
            for paragraph in re.split(r"\n\s*\n", text):
                lines = "\n".join(line for line in paragraph.splitlines() if not line.startswith("#"))
                fields = {
                    key.lower(): " ".join(value.split())
                    for key, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t]+.*)*)", lines, re.MULTILINE)
                }
                if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
                    continue
                found += [
                    Source(uri, suite, fields.get("components", ""))
                    for uri in fields.get("uris", "").split()
                    for suite in fields.get("suites", "").split()
                ]
        elif name.endswith(".list"):
            for line in text.splitlines():
                match = re.match(r"deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)", line.strip())
                if match:
                    found.append(Source(match[1], match[2], " ".join(match[3].split())))
    return found


def sources_for(suite: str, sources: Iterable[Source], codename: str, mirror: str = "") -> list[Source]:
    """Sources of a suite's hosts: the machine's own Debian mirrors, with the suite's name put in.

    Args:
        suite: Debian suite of the host.
        sources: The machine's sources.
        codename: The machine's own suite; empty when it is no Debian.
        mirror: Root of a Debian archive, for a machine that has none among its sources.

    Raises:
        LabError: There is neither.
    """
    wanted = {codename: suite, f"{codename}-updates": f"{suite}-updates", f"{codename}-security": f"{suite}-security"}
    found: list[Source] = []
    for source in sources:
        if source.suite in wanted and "main" in source.components.split():
            mine = Source(source.uri.rstrip("/"), wanted[source.suite], "main")
            if mine not in found:
                found.append(mine)
    if not any(source.suite == suite for source in found):
        if not mirror:
            raise LabError(f"no Debian mirror among this machine's apt sources: name one in {_MIRROR_VARIABLE}")
        return [Source(mirror.rstrip("/"), name, "main") for name in (suite, f"{suite}-updates")]
    return found


def machine_sources(suite: str, root: Path = Path("/")) -> list[Source]:
    """Sources of a suite's hosts on this machine."""
    files = [root / "etc/apt/sources.list", *sorted((root / "etc/apt/sources.list.d").glob("*"))]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files if file.is_file()}
    release = (root / "etc/os-release").read_text(encoding="utf-8")
    debian = re.search(r"^ID=\"?debian\"?$", release, re.MULTILINE)
    codename = re.search(r"^VERSION_CODENAME=\"?(\w+)", release, re.MULTILINE)
    return sources_for(
        suite, parse_sources(texts), codename[1] if debian and codename else "", os.environ.get(_MIRROR_VARIABLE, "")
    )


def apt_settings(dump: str) -> str:
    """The settings of the machine's apt that hosts need, from `apt-config dump`: proxies, dates, address family."""
    kept = [line for line in dump.splitlines() if line.startswith(_APT_SETTINGS) and not line.endswith(' "";')]
    return "".join(f"{line}\n" for line in kept)


def machine_apt_settings() -> str:
    """What `apt_settings` keeps of this machine's apt; nothing where there is no apt."""
    tool = shutil.which("apt-config")
    if tool is None:
        return ""
    return apt_settings(subprocess.run([tool, "dump"], capture_output=True, text=True, check=True).stdout)


def resolv_conf(root: Path = Path("/")) -> str:
    """Name servers for hosts: the machine's, or the ones behind the stub that listens on its loopback only."""
    text = (root / "etc/resolv.conf").read_text(encoding="utf-8")
    servers = re.findall(r"^nameserver\s+(\S+)", text, re.MULTILINE)
    upstream = root / "run/systemd/resolve/resolv.conf"
    if all(server.startswith("127.") or server == "::1" for server in servers) and upstream.exists():
        return upstream.read_text(encoding="utf-8")
    return text


def extra_authorities(root: Path = Path("/"), known: str = "") -> list[str]:
    """Certificates that the machine trusts and a plain Debian does not, as PEM, in a stable order.

    Args:
        root: Root of the machine's file system.
        known: Bundle of a plain Debian.
    """
    texts = [root / BUNDLE.relative_to("/"), *sorted((root / "usr/local/share/ca-certificates").rglob("*.crt"))]
    usual = {"".join(block.split()) for block in _PEM.findall(known)}
    found: dict[str, str] = {}
    for path in texts:
        if path.is_file():
            for block in _PEM.findall(path.read_text(encoding="utf-8", errors="replace")):
                key = "".join(block.split())
                if key not in usual:
                    found.setdefault(key, block.rstrip("\n") + "\n")
    return [found[key] for key in sorted(found)]


def environment_lines(environment: Mapping[str, str]) -> str:
    """Lines for a host's /etc/environment: proxies, and the certificate bundle where programs are told of one."""
    return "".join(
        f'{name}="{value}"\n'
        for name, value in sorted(environment.items())
        if (value and name.lower() in _PROXIES)
        or (name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") and value == str(BUNDLE))
    )


def pip_settings(texts: Iterable[str]) -> str:
    """A host's /etc/pip.conf from the machine's: indexes and trust, without what is only on the machine's disk."""
    merged: dict[str, str] = {}
    for text in texts:
        parser = configparser.ConfigParser(interpolation=None)
        parser.read_string(text)
        if not parser.has_section("global"):
            continue
        for key, value in parser.items("global"):
            name = key.replace("_", "-")
            if name in ("index-url", "extra-index-url"):
                urls = [url for url in value.split() if url.startswith(("https://", "http://"))]
                if urls:
                    merged[name] = " ".join(urls)
            elif name in ("trusted-host", "timeout", "proxy") or (name == "cert" and value == str(BUNDLE)):
                merged[name] = " ".join(value.split())
    if not merged:
        return ""
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in sorted(merged.items()))


def machine_pip_settings(environment: Mapping[str, str] | None = None, root: Path = Path("/")) -> str:
    """What `pip_settings` keeps of this machine's pip, its environment variables included."""
    environment = os.environ if environment is None else environment
    files = [root / "etc/xdg/pip/pip.conf", root / "etc/pip.conf"]
    if "HOME" in environment:
        files.append(Path(environment["HOME"]) / ".config/pip/pip.conf")
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]
    names = {name[4:].lower(): value for name, value in environment.items() if name.startswith("PIP_")}
    texts.append("[global]\n" + "".join(f"{name} = {value}\n" for name, value in names.items() if "\n" not in value))
    return pip_settings(texts)

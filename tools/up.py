"""`make up`: from a machine with the tools on it to a short link that answers.

Every stage looks at what is there and does what is missing, so that running it again, after whatever happened, brings
the lab to the same end. Nothing is remembered but secrets, keys and the account, in `.lab/`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.lab import ROOT, LabToolError, release
from tools.lab.files import write_private
from tools.lab.material import domains, ensure_material, lab_hosts
from tools.lab.playbook import run_logged
from tools.lab.progress import Progress
from tools.lab.visitor import Link, Platform, connected

LAB = ROOT / ".lab"
URLS = ROOT / "tools/data/urls.txt"
EMAIL = "admin@linkrift.test"


@dataclass(frozen=True)
class Account:
    """The account that owns the lab's links."""

    email: str
    password: str


def playbook(path: str, *arguments: str) -> list[str]:
    """The command that runs one of the project's playbooks."""
    return [str(Path(sys.executable).with_name("ansible-playbook")), path, *arguments]


def account(lab_file: Path) -> Account:
    """The account of an earlier run, or a new one.

    Args:
        lab_file: The lab's lab.json, which may be missing.
    """
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError):
        known = json.loads(lab_file.read_text(encoding="utf-8"))["admin"]
        return Account(known["email"], known["password"])
    return Account(EMAIL, secrets.token_urlsafe(18))


def describe(directory: Path, admin: Account) -> dict[str, Any]:
    """Content of lab.json: where everything is, for scripts.

    Args:
        directory: The lab's directory.
        admin: The account.
    """
    domain, _ = domains()
    hosts = lab_hosts(directory)
    addresses = {name: str(found[0]) for name, found in hosts.addresses.items()}
    return {
        "api_url": f"https://api.{domain}",
        "go_url": f"https://go.{domain}",
        "ca_file": str(directory / "ca.pem"),
        "addresses": addresses,
        "visitors": str(hosts.visitors()[0]),
        "admin": {"email": admin.email, "password": admin.password},
    }


def write_description(directory: Path, admin: Account) -> dict[str, Any]:
    """Write lab.json, for its owner only, and return its content."""
    content = describe(directory, admin)
    write_private(directory / "lab.json", (json.dumps(content, indent=2) + "\n").encode())
    return content


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[None]:
    """Keep a second `make up` or `make down` from running beside this one.

    Raises:
        LabToolError: One is running.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / "lock").open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabToolError("another make up or make down is running here") from error
        yield


def sample_links() -> list[Link]:
    """The links that the lab gets."""
    lines = URLS.read_text(encoding="utf-8").splitlines()
    return [Link.to(line) for line in lines if line and not line.startswith("#")]


async def use(platform: Platform, progress: Progress, admin: Account, links: list[Link]) -> tuple[Account, int]:
    """Have the account and the links, follow one, and wait until that is counted.

    Returns:
        The account, which is another one when the password of the first was lost, and the clicks on the first link.
    """
    with progress.stage("account") as stage:
        if not await platform.sign_in(admin.email, admin.password):
            # Somebody removed .lab/lab.json, but the database still has the account.
            admin = Account(f"admin-{secrets.token_hex(4)}@linkrift.test", admin.password)
            if not await platform.sign_in(admin.email, admin.password):
                raise LabToolError(f"the API lets the new account {admin.email} not log in")
        stage.result = admin.email
    with progress.stage("links") as stage:

        def done(count: int) -> None:
            stage.doing = f"{count} of {len(links)}"

        # They are created in order, a few at a time: with the last ones there, all are.
        missing = [link for link in links[-16:] if not await platform.has(link)]
        new = await platform.create(links, done) if missing else 0
        stage.result = f"{len(links)}, {new} of them new"
    with progress.stage("a visitor") as stage:
        before = await platform.clicks(links[0])
        await platform.follow(links[0])
        stage.doing = "waiting for the click to be counted"
        clicks = await platform.counted(links[0], before)
        stage.result = f"{clicks} clicks counted"
    return admin, clicks


async def visit(progress: Progress, description: dict[str, Any], admin: Account, links: list[Link]) -> Account:
    """Use the platform where visitors come; return the account that works."""
    domain, _ = domains()
    async with connected(domain, description["visitors"], description["ca_file"]) as platform:
        return (await use(platform, progress, admin, links))[0]


def stand_up(progress: Progress) -> None:
    """All stages, in order.

    Raises:
        LabToolError: One of them fails.
    """
    logs = LAB / "logs"
    create = ("molecule/shared/create.yml", "-e", "lab_name=main", "--tags")
    with progress.stage("images") as stage:
        output = run_logged(playbook(*create, "lab_image"), log=logs / "images.log", stage=stage)
        stage.result = "built" if "changed=1" in output else "kept"
    with progress.stage("hosts") as stage:
        run_logged(playbook(*create, "lab_host"), log=logs / "hosts.log", stage=stage)
        stage.result = " ".join(lab_hosts(LAB).addresses)
    with progress.stage("secrets and certificates") as stage:
        stage.result = f"{len(ensure_material(LAB))} new"
    with progress.stage("bundle") as stage:
        command = [sys.executable, "-m", "tools.bundle", "build", "--json"]
        bundle = release.parse(run_logged(command, log=logs / "bundle.log", stage=stage))
        release.note(LAB, bundle)
        stage.result = bundle.id
    with progress.stage("preflight") as stage:
        preflight = playbook("playbooks/preflight.yml", "-i", "inventories/lab")
        run_logged(preflight, log=logs / "preflight.log", stage=stage)
        stage.result = "all hosts are fit"
    with progress.stage("platform") as stage:
        site = playbook("playbooks/site.yml", "-i", "inventories/lab", "-e", f"linkrift_release={bundle.id}")
        run_logged(site, log=logs / "site.log", stage=stage)
        stage.result = "playbooks/site.yml"
    admin = account(LAB / "lab.json")
    # Written before it is used, so that an interruption does not lose the password.
    description = write_description(LAB, admin)
    links = sample_links()
    used = asyncio.run(visit(progress, description, admin, links))
    if used != admin:
        description = write_description(LAB, used)
    progress.say(summary(description, links[0], bundle.id))


def summary(description: dict[str, Any], link: Link, bundle_id: str) -> str:
    """What to tell at the end: a link that answers, and what to try next."""
    here = Path.cwd()
    lab = LAB.relative_to(here) if LAB.is_relative_to(here) else LAB
    there = description["visitors"]
    go, api = description["go_url"], description["api_url"]
    names = [url.removeprefix("https://") for url in (go, api)]
    curl = f"curl --cacert {lab}/ca.pem"
    return f"""
Short link   {go}/{link.code}
  leads to   {link.url}
  follow it  {curl} --resolve {names[0]}:443:{there} -i {go}/{link.code}

API          {api}     account and password: {lab}/lab.json
  try it     {curl} --resolve {names[1]}:443:{there} {api}/api/v1/openapi.json
Release      {bundle_id}

Next
  ssh -F {lab}/ssh_config app1                              look around on a host (user ops, sudo)
  .venv/bin/ansible-playbook -i inventories/lab playbooks/site.yml --check --diff
  make down                                             take it all away
"""


def main() -> int:
    """Run `make up`; 1 when it could not, with the reason on stderr."""
    progress = Progress()
    try:
        with alone(LAB):
            stand_up(progress)
    except LabToolError as error:
        sys.stderr.write(f"\nmake up stopped: {error}\nmake up again goes on from here.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; make up again goes on from here.\n")
        return 130
    progress.say(f"up in {progress.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

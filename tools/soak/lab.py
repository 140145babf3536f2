"""The lab that releases are soaked on: hosts that serve, and good releases to move between."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.bench.bundles import Bundle, build
from tools.bench.fleet import Look
from tools.bench.lab import Lab, playbook
from tools.bench.runs import Ended, Watch, operate
from tools.lab import ROOT, LabToolError
from tools.lab.material import lab_hosts
from tools.soak.rounds import say

SOAK = Lab("soak")
PLACE = ROOT / ".bench" / "soak"
# A deploy as fast as it gets: it is not the waiting that is soaked.
FAST: Mapping[str, object] = {"stabilisation": 0, "rollout_watch": 0, "warm": 0}


@dataclass
class Platform:
    """A lab that serves.

    Attributes:
        lab: The lab.
        hosts: Names of its application hosts.
        pair: Two good releases.
        published: Those that the bundle store has.
    """

    lab: Lab
    hosts: Sequence[str]
    pair: Sequence[Bundle]
    published: set[str] = field(default_factory=set)

    def other(self, found: Look) -> Bundle:
        """Return one of the pair that the fleet does not run."""
        return next(bundle for bundle in self.pair if bundle.id != found.recorded("redirect"))

    def wish(self, bundle: Bundle) -> str:
        """Return what to call a release: its path the first time, so that the bundle store gets it."""
        return bundle.id if bundle.id in self.published else bundle.path

    def run(self, name: str, variables: Mapping[str, object], log: str, watch: Watch | None = None) -> Ended:
        """Run a playbook; it may fail."""
        return operate(self.lab, name, variables, PLACE / "logs" / f"{log}.log", watch)

    def deploy(self, bundle: Bundle, log: str, variables: Mapping[str, object], watch: Watch | None = None) -> Ended:
        """Take a release live; it may fail."""
        ended = self.run("deploy", {"release": self.wish(bundle), **variables}, log, watch)
        if ended.rc == 0:
            self.published.add(bundle.id)
        return ended

    def converge(self, bundle: Bundle, log: str, variables: Mapping[str, object]) -> Ended:
        """Take a release live, which must succeed.

        Raises:
            LabToolError: It does not.
        """
        return self.deploy(bundle, log, variables).fine(f"the deploy of {bundle.id} ({log}.log)")

    def settled(self, log: str) -> None:
        """See that the fleet's status has nothing to find fault with.

        Raises:
            LabToolError: It has.
        """
        ended = self.run("status", {"status_strict": True}, log)
        if ended.rc != 0:
            raise LabToolError(f"status.yml finds fault: {ended.output[-3000:]}")


def stand_up(lab: Lab, hosts: Sequence[str], *, resume: bool) -> Platform:
    """Have a lab that serves, and releases for it.

    Args:
        lab: The lab.
        hosts: Its hosts; none means those of inventories/lab.
        resume: Go on with the lab that is there.
    """
    if not resume:
        for left in (bundles(), PLACE / "logs"):
            shutil.rmtree(left, ignore_errors=True)
    say("a lab that serves")
    lab.create(hosts, anew=not resume)
    playbook("playbooks/site.yml", "-i", lab.inventory)
    say("two good releases")
    pair = [build(bundles(), f"1.0.{number}", "--good") for number in (1, 2)]
    platform = Platform(lab, sorted(set(lab_hosts(lab.directory).of("redirect_hosts"))), pair)
    for bundle in pair:
        platform.converge(bundle, f"prepare-{bundle.id}", {**FAST, "strategy": "blue_green"})
    return platform


def bundles() -> Path:
    """Return where the releases' bundles are."""
    return PLACE / "bundles"


def sound(wrong: Sequence[str]) -> None:
    """See that nothing is wrong.

    Raises:
        LabToolError: Something is; it says what.
    """
    if wrong:
        raise LabToolError("; ".join(wrong))

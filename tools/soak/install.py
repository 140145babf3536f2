"""The first installation, killed at a random moment.

With all its processes; then it is run again: it must go on from there to the same end, and a third run must change
nothing. Each round says the seed that repeats it.
"""

from __future__ import annotations

import hashlib
import subprocess
import time

from tools.bench.lab import Lab, command, playbook
from tools.lab import ROOT, LabToolError
from tools.soak.rounds import Row
from tools.testing.killed import kill_all

# A first installation takes longer than this on two processors, so that most kills hit it in the middle.
LONGEST_SECONDS = 180.0


def kill_in_the_middle(inventory: str, seconds: float) -> bool:
    """Run site.yml for some seconds, then kill all of it at once; tell whether it was still running."""
    with subprocess.Popen(
        command("playbooks/site.yml", "-i", inventory),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            # Its process group would not be all of it: Ansible's workers have sessions of their own.
            kill_all(process.pid)
            return True
    return False


def moment(seed: int) -> float:
    """Return after how many seconds to kill: anywhere between 5 and the longest time, always the same for a seed."""
    return 5.0 + share(seed) * (LONGEST_SECONDS - 5.0)


def share(seed: int) -> float:
    """Return a number from 0 to 1 that looks random and is always the same for a seed."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big") / 2**32


def round_of(lab: Lab, seed: int) -> Row:
    """One round on bare hosts.

    Raises:
        LabToolError: The second run fails, or the third one changes something.
    """
    seconds = moment(seed)
    with lab.bare_hosts() as inventory:
        hit = kill_in_the_middle(inventory, seconds)
        began = time.monotonic()
        playbook("playbooks/site.yml", "-i", inventory)
        again = time.monotonic() - began
        third = playbook("playbooks/site.yml", "-i", inventory)
        if third.changed:
            raise LabToolError(f"seed {seed}: the third run changed {third.changed} things")
    return {"seed": seed, "killed": f"{seconds:.0f} s" if hit else "not: it had ended", "again": f"{again:.0f} s"}

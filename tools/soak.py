"""`make soak`: sweeps that take too long for CI.

The first installation is killed with all its processes at a random moment, then run again: it must go on from
there to the same end, and a third run must change nothing. Each round says the seed that repeats it.
"""

from __future__ import annotations

import argparse
import hashlib
import secrets
import subprocess
import sys
import time
from pathlib import Path

from tools.bench import lab
from tools.lab import ROOT, LabToolError
from tools.testing.killed import kill_all

# A first installation takes longer than this on two processors, so that most kills hit it in the middle.
LONGEST_SECONDS = 180.0


def kill_in_the_middle(inventory: str, seconds: float) -> bool:
    """Run site.yml for some seconds, then kill all of it at once; tell whether it was still running."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/site.yml", "-i", inventory]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
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
    share = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big") / 2**32
    return 5.0 + share * (LONGEST_SECONDS - 5.0)


def round_of(seed: int) -> None:
    """One round on bare hosts.

    Raises:
        LabToolError: The second run fails, or the third one changes something.
    """
    seconds = moment(seed)
    with lab.bare_hosts() as inventory:
        hit = kill_in_the_middle(inventory, seconds)
        began = time.monotonic()
        lab.playbook("playbooks/site.yml", "-i", inventory)
        again = time.monotonic() - began
        third = lab.playbook("playbooks/site.yml", "-i", inventory)
        if third.changed:
            raise LabToolError(f"seed {seed}: the third run changed {third.changed} things")
    what = f"killed after {seconds:.0f} s" if hit else f"had ended before {seconds:.0f} s"
    print(f"seed {seed}: {what}, the second run took {again:.0f} s, the third changed nothing", flush=True)


def main() -> int:
    """Run the rounds; exit 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="rounds (default 10; about 8 minutes each)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="the first seed")
    options = parser.parse_args()
    try:
        for number in range(options.rounds):
            round_of(options.seed + number)
    except LabToolError as error:
        sys.stderr.write(f"soak: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

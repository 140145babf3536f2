"""`make down`: take the lab's hosts away, and say what stays."""

from __future__ import annotations

import sys

from tools.lab import LabToolError
from tools.lab.playbook import run_logged
from tools.lab.progress import Progress
from tools.up import LAB, alone, playbook

KEPT = f"""\
kept: {LAB} (secrets, certificates, key), for the next make up
      /var/lib/linkrift-lab (images, downloaded packages), which makes it fast
to be rid of them, too, when no other lab is up: rm -rf {LAB} /var/lib/linkrift-lab"""


def main() -> int:
    """Run `make down`; 1 when it could not, with the reason on stderr."""
    progress = Progress()
    try:
        with alone(LAB):
            with progress.stage("hosts and network") as stage:
                command = playbook("molecule/shared/destroy.yml", "-e", "lab_name=main")
                output = run_logged(command, log=LAB / "logs" / "down.log", stage=stage)
                stage.result = "nothing was there" if "changed=0" in output else "removed"
            # It names an account of a database that is gone.
            (LAB / "lab.json").unlink(missing_ok=True)
    except LabToolError as error:
        sys.stderr.write(f"\nmake down stopped: {error}\n")
        return 1
    progress.say(KEPT)
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Puts the SSH server's former configuration back, unless somebody confirmed the new one before.

A copy of this file lies beside the record of a change and is started by a timer on the host, without Ansible: it needs
nothing but Python. Usage: guard.py DIRECTORY
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RECORD = "change.json"
CLAIMED = "reverting.json"
REVERTED = "reverted.json"
CONFIRMED = "confirmed.json"


def claim(directory: Path, name: str) -> dict[str, Any] | None:
    """Take the record of a change for oneself; None when somebody else did, or there is none.

    A rename decides: of a confirmation and a timer that meet, one gets it.
    """
    try:
        (directory / RECORD).rename(directory / name)
    except FileNotFoundError:
        return None
    found: dict[str, Any] = json.loads((directory / name).read_text(encoding="utf-8"))
    return found


def put_back(directory: Path, record: dict[str, Any]) -> list[str]:
    """Make the files what they were, and have the server read them; return what was done, in words.

    Every step is tried, whatever the ones before came to.
    """
    done: list[str] = []
    for file in record["files"]:
        path = Path(file["path"])
        if file["kept"] is None:
            path.unlink(missing_ok=True)
            done.append(f"{path} removed")
            continue
        temporary = path.with_name(f".{path.name}.guard")
        shutil.copyfile(directory / file["kept"], temporary)
        os.chown(temporary, file["uid"], file["gid"])
        temporary.chmod(file["mode"])
        temporary.replace(path)
        done.append(f"{path} restored")
    return done + [run(command) for command in record["commands"]]


def run(command: list[str]) -> str:
    """Run a command, and return it with what it came to when that was not success."""
    try:
        status = subprocess.run(
            command, check=False, timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        ).returncode
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}"
    return " ".join(command) + ("" if status == 0 else f": exit status {status}")


def revert(directory: Path, why: str) -> dict[str, Any] | None:
    """Revert a change that nobody confirmed; return its record with what was done, None when there is none."""
    record = claim(directory, CLAIMED)
    if record is None and (directory / CLAIMED).exists():
        # An earlier attempt was cut off, by a power cut for example: all steps may be done again.
        record = json.loads((directory / CLAIMED).read_text(encoding="utf-8"))
    if record is None:
        return None
    record["reverted"] = put_back(directory, record)
    record["why"] = why
    temporary = directory / f".{REVERTED}"
    temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")
    temporary.replace(directory / REVERTED)
    (directory / CLAIMED).unlink(missing_ok=True)
    return record


def main() -> None:
    """Revert, because the time is up."""
    record = revert(Path(sys.argv[1]), "nobody confirmed it in time")
    sys.stdout.write("nothing to revert\n" if record is None else "".join(f"{line}\n" for line in record["reverted"]))


if __name__ == "__main__":
    main()

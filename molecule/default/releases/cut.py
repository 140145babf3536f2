"""Cut the SSH connection of a slot's step in its middle, and ask for the same again; prints what came of both as JSON.

Three arguments: the lab's directory, a host, and the id of a release that is installed there and not live. ssh_cut.yml
runs it on the control node, in the project's directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SERVICE = "redirect"
# Long enough to be cut in its middle: two gates that want twelve answers each, a quarter of a second apart.
STEP = {"service": SERVICE, "state": "candidate", "replace": True, "successes": 12, "interval": 0.25}
# What the step file that is written now says, or the last one that was.
STEPS = f"cat $(ls -t /run/linkrift-op/{SERVICE}/*.jsonl | head -n 1)"
SESSIONS = "pgrep -f '^sshd(-session)?: ops' | tr '\\n' ' '"
# Connections that began since; not the one that this comes over.
CUT = """
spared=" {spared} "
pid=$$
while [ "$pid" -gt 1 ]; do spared="$spared$pid "; pid=$(ps -o ppid= "$pid" | tr -d ' '); done
for pid in $({sessions}); do
    case "$spared" in *" $pid "*) ;; *) kill -9 "$pid" ;; esac
done
"""


class Host:
    """A host of the lab, over connections of this program's own: those that others share stay."""

    def __init__(self, lab: Path, name: str) -> None:
        self._lab = lab
        self._name = name

    def sh(self, script: str) -> str:
        """Run a script as root; return what it said, or an empty text when it failed."""
        command = ["ssh", "-F", str(self._lab / "ssh_config"), "-o", "ControlPath=none", self._name, "sudo", "sh", "-s"]
        return subprocess.run(command, input=script, capture_output=True, text=True, check=False).stdout

    def slot(self, **parameters: Any) -> subprocess.Popen[str]:
        """Begin a step, as Ansible does."""
        program = str(Path(sys.executable).with_name("ansible"))
        arguments = ["--become", "--module-name", "linkrift.platform.slot", "--args", json.dumps(parameters)]
        environment = {
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            # Molecule has it forced.
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none",
        }
        return subprocess.Popen(
            [program, "-i", str(self._lab / "inventory"), self._name, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a step came to."""
    said, _nothing = process.communicate(timeout=120)
    result: dict[str, Any] = json.loads(said.partition("=> ")[2])
    return result


def main(lab: Path, name: str, release: str) -> dict[str, Any]:
    """Cut a step, repeat it, and stop what it started."""
    host = Host(lab, name)
    step = {**STEP, "release": release}
    ledger = f"/var/lib/linkrift/ledger/{SERVICE}.jsonl"
    spared = host.sh(SESSIONS)
    last = host.sh(STEPS).partition("\n")[0]
    first = host.slot(**step, by="cut")
    end = time.monotonic() + 60
    while (steps := host.sh(STEPS)).partition("\n")[0] == last or '"step": "start"' not in steps:
        if first.poll() is not None or time.monotonic() > end:
            msg = f"the step did not begin: {first.communicate()[0] if first.poll() is not None else 'after 60 s'}"
            raise SystemExit(msg)
    host.sh(CUT.format(spared=spared, sessions=SESSIONS))
    said, _nothing = first.communicate(timeout=60)
    began = time.monotonic()
    again = answer(host.slot(**step, by="again"))
    found: dict[str, Any] = {"cut": {"rc": first.returncode, "said": said}, "again": again}
    found["seconds"] = round(time.monotonic() - began, 1)
    found["ledger"] = json.loads(host.sh(f"tail -n 1 {ledger}"))
    found["stopped"] = answer(host.slot(service=SERVICE, state="stopped", slot=again["slot"], by="again"))
    return found


def wrong(found: dict[str, Any]) -> list[str]:
    """Return what did not go as it should have."""
    expected = {
        "the connection was not cut": "UNREACHABLE" in found["cut"]["said"],
        # Whether it was still under way when it was asked for again, or had just ended.
        "the step did not go on by itself": found["ledger"]["by"] == "cut" and found["ledger"]["action"] == "candidate",
        "the same step again did not find it": found["again"].get("steps") in (["pin", "link", "start", "ledger"], []),
        "it cannot be stopped": found["stopped"].get("changed") is True,
    }
    return [sentence for sentence, right in expected.items() if not right]


if __name__ == "__main__":
    seen = main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
    print(json.dumps(seen))
    sys.exit("; ".join(wrong(seen)) or 0)

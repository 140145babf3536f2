"""Command line: prepare a lab whose hosts exist, for `make up` and for molecule's scenarios."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tools.lab import ROOT, LabToolError, release
from tools.lab.material import ensure_material


def _build() -> release.Bundle:
    """Build the bundle of this checkout, or find it built."""
    built = subprocess.run(
        [sys.executable, "-m", "tools.bundle", "build", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        raise LabToolError("the bundle could not be built: see the lines above")
    return release.parse(built.stdout)


def main(arguments: list[str] | None = None) -> int:
    """Run one command: print what is new, one a line; 1 means that it failed and stderr says why."""
    parser = argparse.ArgumentParser(prog="python -m tools.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, words in (
        ("material", "generate the secrets and certificates that are missing"),
        ("release", "build the bundle and note it as the one that the lab installs"),
    ):
        command = commands.add_parser(name, help=words)
        command.add_argument("--dir", type=Path, required=True, help="the lab's directory")
    parsed = parser.parse_args(arguments)
    directory: Path = parsed.dir.resolve()
    try:
        if parsed.command == "material":
            new = ensure_material(directory)
        else:
            bundle = _build()
            new = [bundle.id] if release.note(directory, bundle) else []
    except LabToolError as error:
        sys.stderr.write(f"lab: {error}\n")
        return 1
    for line in new:
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())

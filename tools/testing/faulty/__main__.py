"""Command line: build a bundle that goes wrong, or another good one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError
from tools.bundle import BuildError
from tools.bundle.targets import TARGETS
from tools.bundle.wheels import Cache, default_cache
from tools.testing import faulty
from tools.testing.faulty.build import LAB_TARGETS, Wish, alter, make, truncate


def _say(line: str) -> None:
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.testing.faulty",
        description=faulty.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--version", default="1.0.1")
    parser.add_argument("--good", action="store_true")
    parser.add_argument("--failing-migration", action="store_true")
    parser.add_argument("--only-target", action="append", choices=[target.name for target in TARGETS], metavar="NAME")
    damages = parser.add_mutually_exclusive_group()
    damages.add_argument("--truncated", dest="damage", action="store_const", const=truncate)
    damages.add_argument("--altered", dest="damage", action="store_const", const=alter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--cache", type=Path, default=default_cache())
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Build; 1 means that it failed and stderr says why."""
    parsed = _parser().parse_args(arguments)
    names = parsed.only_target
    wish = Wish(
        version=parsed.version,
        faults=not parsed.good,
        failing_migration=parsed.failing_migration,
        targets=[target for target in TARGETS if target.name in names] if names else LAB_TARGETS,
    )
    try:
        made = make(faulty.ROOT, wish, parsed.output.resolve(), Cache(parsed.cache, _say), _say, parsed.damage)
    except (BuildError, BundleError, TimeoutError, OSError) as error:
        sys.stderr.write(f"faulty: {error}\n")
        return 1
    if parsed.json:
        print(json.dumps({"id": made.release, "path": str(made.archive), "digest": made.digest}))
    else:
        print(made.archive)
    return 0


if __name__ == "__main__":
    sys.exit(main())

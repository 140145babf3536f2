"""Command line: build a release bundle, or check one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils._bundle import BundleError, check_tree
from tools.bundle import ROOT, BuildError
from tools.bundle.archive import verify_archive
from tools.bundle.build import build
from tools.bundle.proof import Proof
from tools.bundle.wheels import Cache, default_cache


def _say(line: str) -> None:
    sys.stderr.write(f"  {line}\n")
    sys.stderr.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    builder = commands.add_parser("build", help="build the bundle of this checkout; the last line is its path")
    builder.add_argument("--json", action="store_true", help="print the result as one JSON object instead")
    builder.add_argument("--dist", type=Path, default=ROOT / "dist", help="directory to put it in (%(default)s)")
    builder.add_argument(
        "--untested", action="store_true", help="leave its tests out; preflight warns of such a bundle, or refuses it"
    )
    builder.add_argument("--keep", type=int, default=3, help="bundles to leave there (%(default)s)")
    builder.add_argument("--cache", type=Path, default=default_cache(), help="cache of wheels (%(default)s)")
    verifier = commands.add_parser("verify", help="check every file of a bundle, packed or unpacked; print its id")
    verifier.add_argument("path", type=Path)
    return parser


def _build(arguments: argparse.Namespace) -> None:
    prove = None if arguments.untested else Proof(ROOT, arguments.cache, _say)
    built = build(ROOT, arguments.dist.resolve(), Cache(arguments.cache, _say), _say, arguments.keep, prove=prove)
    if not arguments.json:
        print(built.archive)
        return
    result = {
        "id": built.release,
        "path": str(built.archive),
        "tree": str(built.tree),
        "digest": built.sums_digest,
        "version": built.manifest.version,
        "commit": built.manifest.commit,
        "branch": built.manifest.branch,
        "commit_time": built.manifest.commit_time,
        "dirty": built.manifest.dirty,
        "schema_level": built.manifest.schema_level,
        "schema_floor": built.manifest.schema_floor,
        "tests": built.manifest.tests.count if built.manifest.tests else None,
        "bytes": built.archive.stat().st_size,
    }
    print(json.dumps(result))


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 1 means that it failed and stderr says why."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "build":
            _build(parsed)
        else:
            path: Path = parsed.path
            print((check_tree(path) if path.is_dir() else verify_archive(path))[0])
    except (BuildError, BundleError, TimeoutError, OSError) as error:
        sys.stderr.write(f"bundle: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

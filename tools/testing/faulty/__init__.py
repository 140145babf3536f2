"""Releases that go wrong on purpose, to test that rollouts notice. Nothing of it is in the product.

    python -m tools.testing.faulty --output DIR [--version 1.0.1]

builds a bundle of this checkout's application with one module more, `switchable_faults`, and puts
`linkrift-<release id>.tar.gz` into DIR; the last line printed is its path. On a host that has no
`/etc/linkrift-faults.json` such a release works like any other. The file names one fault for a service, which is looked
up whenever that service starts:

    {"redirect": {"fault": "fails_after", "seconds": 3}, "worker": {"fault": "exit"}}

    exit              ends at once, with status 3
    never_ready       /health/ready answers 503 for ever
    wrong_version     health tells another release: "version", 0.0.0+000000000000 unless told
    answers_500       every request of a visitor, smoke requests included, gets a 500; health is fine
    fails_after       the same from "seconds" (5) after the slot was admitted on
    ignores_sigterm   neither the parent nor its processes take notice of SIGTERM
    slow_start        "seconds" (30) pass before it listens
    leaks             once the slot was admitted one process grows by "mib" (16) each second, up to "most" (1024) MiB
    logs_errors       once the slot was admitted, or with "from_start": true at once, "per_second" (1) lines of level
                      error
    stores_nothing    is ready and takes clicks, none of which reach ClickHouse

A worker answers no visitor: it refuses answers_500 and fails_after. Nobody else stores clicks, so only a worker takes
stores_nothing. A file that is not understood keeps the service
from starting (status 78, with the reason): a test must not pass because its fault was misspelt. The services have to
be able to read it: mode 0644.

Other bundles, for which no host needs a file:

    --good                 without the module: another good release
    --failing-migration    with one more expand migration, whose last statement fails
    --only-target NAME     for hosts of one kind, such as cp312-x86_64; may be repeated (those of the lab unless told)
    --truncated            the last third of the file is missing
    --altered              one byte of the application's wheel is another one, and SHA256SUMS is as it was
    --json                 print id, path and the digest of SHA256SUMS as one object, instead of the path

The last two keep the name and the id of the whole bundle: put them into a directory of their own.
"""

from __future__ import annotations

# This import makes the collection of this checkout importable, too.
from tools.bundle import ROOT

__all__ = ["ROOT"]

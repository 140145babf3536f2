"""Builds release bundles: `python -m tools.bundle build`.

The format of a bundle is described once, in the collection, which has to work without this package. So the
collection of this checkout is made importable here.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The checkout."""

_COLLECTIONS = str(ROOT / "collections")
if _COLLECTIONS not in sys.path:
    sys.path.insert(0, _COLLECTIONS)


class BuildError(Exception):
    """A bundle cannot be built; the message says why and what to do."""

"""Lets pytest import the collection from this checkout.

The `ansible` package brings an `ansible_collections` package of its own, which would otherwise hide ours.
"""

from __future__ import annotations

from pathlib import Path

import ansible_collections

ansible_collections.__path__.insert(0, str(Path(__file__).parent / "collections" / "ansible_collections"))

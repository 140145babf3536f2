"""The one error that lab functions raise for a person to read."""

from __future__ import annotations


class LabError(Exception):
    """Something about the lab that cannot go on; its text says what, and what to do, in one line."""

"""What a lab needs besides hosts: secrets, certificates, a release; kept in its directory, made once."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class LabToolError(Exception):
    """Something that a person has to do or to know; its text is one line."""

"""Rows of PostgreSQL for tests without it."""

from __future__ import annotations

from typing import Any


def link_row(**more: Any) -> dict[str, Any]:
    """Return what PostgreSQL holds of a plain link, in the columns that LinkState.of_row takes."""
    return {
        "original_url": "https://x",
        "version": 1,
        "is_active": True,
        "expires_at": None,
        "deleted_at": None,
        "redirect_status": 302,
        "forward_query": False,
        "active_from": None,
        "limited": False,
        "password": 0,
        **more,
    }

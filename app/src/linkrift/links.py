"""What the redirect service needs to know of a link, as it is kept in memory and in Redis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

FOREVER = float("inf")
ALWAYS = 0.0

FOUND = 302

ROW_COLUMNS = (
    # Releases before schema level 5 know a guarded link as one that is switched off.
    "original_url, version, coalesce(guarded_is_active, is_active) AS is_active, expires_at, deleted_at, "
    "redirect_status, forward_query, active_from, max_clicks IS NOT NULL AS limited, "
    "CASE WHEN password_hash IS NULL THEN 0 ELSE password_version + 1 END AS password"
)
"""The columns that LinkState.of_row takes. No password's hash is among them: it is nowhere but in PostgreSQL."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a link asks of a visitor, or does, beside leading to its target with 302.

    Attributes:
        status: 301, 302, 307 or 308.
        password: which of the link's passwords is asked for, counted from 1; 0: none.
        active_from: before then there seems to be no such link; seconds since 1970.
        limited: it may be followed a number of times only; PostgreSQL counts.
        forward_query: the visitor's query is added to the target's.
    """

    status: int = FOUND
    password: int = 0
    active_from: float = ALWAYS
    limited: bool = False
    forward_query: bool = False

    def guard(self) -> bool:
        """Tell whether a release that does not know these rules must not open the link."""
        return bool(self.password or self.limited or self.active_from != ALWAYS)


PLAIN = Rules()


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link as the redirect service sees it.

    Attributes:
        target: where it leads.
        version: grows with every change.
        gone: deleted or switched off: answered with 410.
        expires_at: from then on answered with 410, too; seconds since 1970, or FOREVER.
        rules: what else there is to it; None: nothing.
    """

    target: str
    version: int
    gone: bool = False
    expires_at: float = FOREVER
    rules: Rules | None = None

    def encode(self) -> str:
        """Return the form that is kept in Redis.

        Releases that know no rules read `gone` and leave `rules` alone; so a guarded link is gone for them.
        """
        rules = self.rules or PLAIN
        document: dict[str, Any] = {"target": self.target, "version": self.version}
        if self.gone or rules.guard():
            document["gone"] = True
        if self.expires_at != FOREVER:
            document["expires_at"] = self.expires_at
        told = {name: value for name in Rules.__slots__ if (value := getattr(rules, name)) != getattr(PLAIN, name)}
        document["rules"] = {**told, **({"gone": True} if self.gone else {})}
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def decode(cls, data: bytes | str) -> LinkState | None:
        """Read what `encode` wrote; fields that a newer release added are left alone.

        Returns:
            The state; None where a release wrote it that knows no rules: the link may have some, which only PostgreSQL
            can tell.

        Raises:
            ValueError: it is something else.
        """
        document = json.loads(data)
        if not isinstance(document, dict) or not isinstance(document.get("target"), str):
            raise ValueError("not a link")
        rules = document.get("rules")
        if rules is None:
            return None
        if not isinstance(rules, dict):
            raise ValueError("not a link's rules")
        known = rules
        return cls(
            target=document["target"],
            version=int(document["version"]) if "version" in document else 0,
            gone=bool(known.get("gone", False)),
            expires_at=float(document.get("expires_at", FOREVER)),
            rules=_some(
                Rules(
                    status=int(known.get("status", FOUND)),
                    password=int(known.get("password", 0)),
                    active_from=float(known.get("active_from", ALWAYS)),
                    limited=bool(known.get("limited", False)),
                    forward_query=bool(known.get("forward_query", False)),
                )
            ),
        )

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> LinkState:
        """Make it from what PostgreSQL holds; `row` has the ROW_COLUMNS."""
        return cls(
            target=row["original_url"],
            version=row["version"],
            gone=row["deleted_at"] is not None or not row["is_active"],
            expires_at=_seconds(row["expires_at"], FOREVER),
            rules=_some(
                Rules(
                    status=row["redirect_status"],
                    password=row["password"],
                    active_from=_seconds(row["active_from"], ALWAYS),
                    limited=row["limited"],
                    forward_query=row["forward_query"],
                )
            ),
        )


def _some(rules: Rules) -> Rules | None:
    """Return rules that say something; memory and the redirect path are spared those that do not."""
    return None if rules == PLAIN else rules


def _seconds(moment: datetime | None, otherwise: float) -> float:
    return otherwise if moment is None else moment.timestamp()

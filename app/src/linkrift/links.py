"""What the redirect service needs to know of a link, as it is kept in memory and in Redis."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link as the redirect service sees it.

    Attributes:
        target: where it leads.
        version: grows with every change.
        gone: deleted or switched off: answered with 410.
        expires_at: from then on answered with 410, too; seconds since 1970, or FOREVER.
    """

    target: str
    version: int
    gone: bool = False
    expires_at: float = FOREVER

    def encode(self) -> str:
        """Return the form that is kept in Redis."""
        document: dict[str, str | int | float | bool] = {"target": self.target, "version": self.version}
        if self.gone:
            document["gone"] = True
        if self.expires_at != FOREVER:
            document["expires_at"] = self.expires_at
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def decode(cls, data: bytes | str) -> LinkState:
        """Read what `encode` wrote; fields that a newer release added are left alone.

        Raises:
            ValueError: it is something else.
        """
        document = json.loads(data)
        if not isinstance(document, dict) or not isinstance(document.get("target"), str):
            raise ValueError("not a link")
        return cls(
            target=document["target"],
            version=int(document["version"]) if "version" in document else 0,
            gone=bool(document.get("gone", False)),
            expires_at=float(document.get("expires_at", FOREVER)),
        )

    @classmethod
    def of_row(
        cls, target: str, version: int, *, is_active: bool, expires_at: datetime | None, deleted_at: datetime | None
    ) -> LinkState:
        """Make it from what PostgreSQL holds."""
        return cls(
            target=target,
            version=version,
            gone=deleted_at is not None or not is_active,
            expires_at=FOREVER if expires_at is None else expires_at.timestamp(),
        )

"""Rows of the ClickHouse table, column by column as the driver sends them."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from linkrift.clicks import Click
from linkrift.worker.agents import agent_of

COLUMNS = (
    *("event_id", "code", "clicked_at", "request_id", "referrer_host", "user_agent", "address"),
    *("visitor", "country", "browser", "os", "device", "bot"),
)

INSERT = f"INSERT INTO clicks ({', '.join(COLUMNS)}) VALUES"

Row = tuple[UUID, str, int, str, str, str, str, int, str, str, str, str, int]


def row(click: Click) -> Row:
    """Return a click's row, in the order of COLUMNS; a visitor who is not known is 0."""
    return (
        UUID(click.event_id),
        click.code,
        click.clicked_at_ms // 1000,
        click.request_id,
        click.referrer_host,
        click.user_agent,
        click.address,
        int(click.visitor, 16) if click.visitor else 0,
        click.country,
        *agent_of(click.user_agent),
    )


def columns(clicks: Iterable[Click]) -> list[tuple[object, ...]]:
    """Return rows as columns; one empty list where there are no clicks."""
    return list(zip(*map(row, clicks), strict=True))

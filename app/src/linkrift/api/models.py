"""What the API takes and gives, as pydantic models; the OpenAPI document is made from them."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from linkrift import link_passwords
from linkrift.api.targets import MAXIMUM_LENGTH

# The exact grammar of addresses helps nobody; a mail that arrives is the only proof.
_EMAIL = re.compile(r"[^\s@\x00-\x1f\x7f]{1,64}@[^\s@\x00-\x1f\x7f]+\.[^\s@.\x00-\x1f\x7f]{2,}")


def _email(value: str) -> str:
    value = value.strip().lower()
    if not 3 <= len(value) <= 254 or not _EMAIL.fullmatch(value):
        raise ValueError("is not an e-mail address")
    return value


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL")
    return value


Email = Annotated[str, StringConstraints(min_length=3, max_length=254), AfterValidator(_email)]
Password = Annotated[str, StringConstraints(min_length=12, max_length=256)]
Target = Annotated[str, StringConstraints(min_length=1, max_length=MAXIMUM_LENGTH)]
Title = Annotated[str, StringConstraints(max_length=255), AfterValidator(_no_nul)]
LinkPassword = Annotated[
    str,
    StringConstraints(min_length=4, max_length=link_passwords.MAXIMUM_LENGTH),
    AfterValidator(_no_nul),
    Field(json_schema_extra={"writeOnly": True}),
]
RedirectStatus = Literal[301, 302, 307, 308]
MaximumClicks = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]
Code = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Body(BaseModel):
    """A request's body; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


class Credentials(Body):
    """Who registers or logs in."""

    email: Email
    password: Password


class Token(BaseModel):
    """An access token for the Authorization header."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme's name
    expires_in: int = Field(description="Seconds.")


class Account(Token):
    """A new account, logged in."""

    id: uuid.UUID
    email: str


class _Times(Body):
    """When a link answers."""

    active_from: AwareDatetime | None = Field(
        default=None, description="Before then the link answers 404, as if it were not there."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="From then on the link answers 410.")

    @model_validator(mode="after")
    def _in_order(self) -> _Times:
        if self.active_from is not None and self.expires_at is not None and self.active_from >= self.expires_at:
            raise ValueError("`active_from` must be before `expires_at`")
        return self


class NewLink(_Times):
    """A link to be made."""

    url: Target
    code: Code | None = Field(default=None, description="Your own code; one is made up where it is missing.")
    title: Title | None = None
    is_active: bool = True
    redirect_status: RedirectStatus = Field(default=302, description="What the link answers with.")
    forward_query: bool = Field(default=False, description="A visitor's query is added to the target's.")
    password: LinkPassword | None = Field(default=None, description="Visitors are asked for it.")
    max_clicks: MaximumClicks | None = Field(default=None, description="After so many clicks it answers 410.")


class LinkChange(_Times):
    """What is to change about a link; a field that is missing stays, one that may be null is taken away by that."""

    url: Target | None = None
    title: Title | None = None
    is_active: bool | None = None
    redirect_status: RedirectStatus | None = None
    forward_query: bool | None = None
    password: LinkPassword | None = Field(default=None, description="A new password; null: none any more.")
    max_clicks: MaximumClicks | None = Field(
        default=None,
        description="Clicks that were used count; null: no maximum, and the next one counts anew.",
    )


class Link(BaseModel):
    """A link."""

    code: str
    short_url: str
    url: str
    title: str | None
    is_active: bool
    active_from: datetime | None
    expires_at: datetime | None
    redirect_status: int
    forward_query: bool
    has_password: bool
    max_clicks: int | None
    clicks_used: int = Field(description="How often it was followed since it has a maximum; 0 without one.")
    created_at: datetime
    updated_at: datetime


class LinkPage(BaseModel):
    """Some links, newest first."""

    items: list[Link]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last one.")


class FieldError(BaseModel):
    """What is wrong with a field."""

    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[FieldError] | None = None


def utc(moment: datetime) -> datetime:
    """Return a time in UTC."""
    return moment.astimezone(timezone.utc)

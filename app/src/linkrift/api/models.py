"""What the API takes and gives, as pydantic models; the OpenAPI document is made from them."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

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


class NewLink(Body):
    """A link to be made."""

    url: Target
    code: Code | None = Field(default=None, description="Your own code; one is made up where it is missing.")
    title: Title | None = None
    expires_at: AwareDatetime | None = Field(default=None, description="From then on the link answers 410.")


class LinkChange(Body):
    """What is to change about a link; a field that is missing stays."""

    url: Target | None = None
    title: Title | None = None
    is_active: bool | None = None
    expires_at: AwareDatetime | None = None


class Link(BaseModel):
    """A link."""

    code: str
    short_url: str
    url: str
    title: str | None
    is_active: bool
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class LinkPage(BaseModel):
    """Some links, newest first."""

    items: list[Link]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page; null on the last one.")


class Stats(BaseModel):
    """How often a link was followed."""

    code: str
    clicks: int


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

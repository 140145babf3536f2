"""Tokens, passwords, cursors, bodies."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from datetime import datetime, timedelta, timezone
from unittest.mock import Mock

import asyncpg
import pytest
from argon2 import PasswordHasher
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from linkrift.api import cursors
from linkrift.api.idempotency import Idempotency
from linkrift.api.models import Credentials, LinkChange, NewLink
from linkrift.api.passwords import Passwords
from linkrift.api.requests import field_errors
from linkrift.api.tokens import TokenError, Tokens
from linkrift.postgres import DatabaseAwayError

SECRET = "made-up-secret-for-tests-0123456789"
OLD = "an-older-secret-for-tests-0123456789"
USER = uuid.UUID(int=7)


def test_a_token_names_its_user() -> None:
    tokens = Tokens(SECRET, (), 60.0)
    assert tokens.verify(tokens.issue(USER)) == USER


async def test_old_idempotency_keys_are_deleted_later_when_the_database_minds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outcomes = [asyncpg.DeadlockDetectedError("deadlock"), DatabaseAwayError("away"), asyncio.CancelledError()]

    async def clean(_: Idempotency) -> int:
        raise outcomes.pop(0)

    monkeypatch.setattr(Idempotency, "clean", clean)
    monkeypatch.setattr("linkrift.api.idempotency.CLEAN_SECONDS", 0.0)
    database = Mock()
    with pytest.raises(asyncio.CancelledError):
        await Idempotency(database, database).run()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_keys_overlap_during_a_rotation() -> None:
    before, after = Tokens(OLD, (), 60.0), Tokens(SECRET, ("x" * 32, OLD), 60.0)
    assert after.verify(before.issue(USER)) == USER
    with pytest.raises(TokenError, match="unknown key"):
        before.verify(after.issue(USER))


async def test_passwords() -> None:
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    hashed = await passwords.hash("correct horse battery")
    assert hashed.startswith("$argon2id$")
    assert await passwords.verify(hashed, "correct horse battery")
    assert not await passwords.verify(hashed, "wrong horse battery")
    assert not await passwords.verify("nonsense", "correct horse battery")
    assert not await passwords.verify(None, "correct horse battery")
    assert not await passwords.verify(None, "")
    passwords.close()


# To the microsecond, as PostgreSQL keeps them.
MOMENTS = st.timedeltas(timedelta(), timedelta(days=84_000)).map(
    lambda delta: datetime(1970, 1, 1, tzinfo=timezone.utc) + delta
)


@given(MOMENTS, st.uuids())
def test_a_cursor_is_exact(moment: datetime, link_id: uuid.UUID) -> None:
    assert cursors.decode(cursors.encode(moment, link_id)) == (moment, link_id)


@given(st.one_of(st.text(max_size=40), st.binary(max_size=30).map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    try:
        moment, link_id = cursors.decode(text)
    except cursors.CursorError:
        return
    assert cursors.encode(moment, link_id) == text


@pytest.mark.parametrize("email", ["a@b", "a b@example.org", "@example.org", "a@example.", "a@@example.org", "x" * 300])
def test_what_is_no_address(email: str) -> None:
    with pytest.raises(ValidationError):
        Credentials(email=email, password="x" * 12)


def test_errors_name_the_field_and_never_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        Credentials.model_validate_json(b'{"email": "hunter2", "password": "hunter2", "more": "hunter2"}')
    errors = field_errors(caught.value)
    assert [error["field"] for error in errors] == ["email", "password", "more"]
    assert errors[0]["message"] == "is not an e-mail address"
    assert "hunter2" not in json.dumps(errors)


def test_bodies() -> None:
    assert Credentials(email=" A@Example.org ", password="x" * 12).email == "a@example.org"
    with pytest.raises(ValidationError):
        NewLink.model_validate_json(b'{"url": "https://x", "expires_at": "2026-01-01T00:00:00"}')
    with pytest.raises(ValidationError):
        NewLink.model_validate_json(b'{"url": "https://x", "code": "a/b"}')
    with pytest.raises(ValidationError):
        NewLink.model_validate_json(b'{"url": "https://x", "title": "\\u0000"}')
    assert LinkChange.model_validate_json(b'{"title": null}').model_fields_set == {"title"}
    aware = NewLink.model_validate_json(b'{"url": "https://x", "expires_at": "2026-01-01T00:00:00+02:00"}').expires_at
    assert aware is not None
    assert aware.utcoffset() == timedelta(hours=2)

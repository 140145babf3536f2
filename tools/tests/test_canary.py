"""What gates ask for is what the application has: both are told of the canary on their own."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from ansible_collections.linkrift.platform.plugins.module_utils import _smoke as smoke
from linkrift import codes
from linkrift.api.tokens import Tokens

MIGRATIONS = Path(__file__).parents[2] / "app/migrations/postgresql"


def test_the_migration_makes_what_gates_ask_for() -> None:
    text = (MIGRATIONS / f"{smoke.CANARY_LEVEL:06d}_canary.up.sql").read_text()
    for value in (smoke.CANARY_ACCOUNT, smoke.CANARY_CODE, smoke.CANARY_TARGET):
        assert f"'{value}'" in text
    assert codes.CANARY == smoke.CANARY_CODE


def test_the_api_takes_the_token_of_a_gate() -> None:
    secret = "made-up-secret-for-tests-0123456789abcdef"
    token = smoke.token(secret, time.time())
    assert Tokens(secret, "", 3600.0).verify(token) == uuid.UUID(smoke.CANARY_ACCOUNT)

"""Requests that may be repeated: one link, whatever happens in between."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from redis.asyncio import Redis

from app.tests.servers.clients import Client
from app.tests.servers.harness import running, variables_of
from linkrift.api.idempotency import HEADER, REPLAYED, Idempotency, _KeyedAttempt
from linkrift.api.invalidation import Invalidation
from linkrift.api.store import Links
from tools.testing.servers import PostgresqlServer

BODY = {"url": "https://example.org/", "title": "Mine"}


def key() -> dict[str, str]:
    return {HEADER: str(uuid.uuid4())}


async def create(client: Client, headers: dict[str, str], **changes: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
    return await client.call("POST", "/links", {**BODY, **changes}, **headers)


async def count(client: Client) -> int:
    return len((await client.call("GET", "/links"))[1]["items"])


async def test_the_same_request_gets_the_same_answer(owner: Client) -> None:
    headers = key()
    status, link, answered = await create(owner, headers)
    assert (status, REPLAYED in answered) == (201, False)
    # What happened to the link since does not matter: it is the answer that was lost.
    await owner.call("PATCH", f"/links/{link['code']}", {"title": "Changed"})
    again = await create(owner, {HEADER: f'"{headers[HEADER]}"'})
    assert again[:2] == (201, link)
    assert (again[2][REPLAYED], again[2]["Location"]) == ("true", answered["Location"])
    # Another spelling of the same body.
    spelled = b'{ "title":"\\u004dine", "url": "https://example.org/" }'
    status, same, _ = await owner.call(
        "POST", "/links", data=spelled, **headers, **{"Content-Type": "application/json"}
    )
    assert (status, same) == (201, link)
    assert await count(owner) == 1


async def test_without_a_key_each_request_makes_a_link(owner: Client) -> None:
    assert [(await create(owner, {}))[0] for _ in range(2)] == [201, 201]
    assert await count(owner) == 2


async def test_another_request_with_the_key_is_refused(owner: Client) -> None:
    headers = key()
    await create(owner, headers)
    assert (await create(owner, headers, title="Other"))[0] == 422
    assert (await create(owner, headers, title=None))[0] == 422
    assert await count(owner) == 1


async def test_a_key_is_its_account_s(owner: Client) -> None:
    headers = key()
    other = await owner.register()
    codes = {(await create(client, headers))[1]["code"] for client in (owner, other)}
    assert len(codes) == 2


async def test_a_key_that_is_none(owner: Client) -> None:
    for bad in ("", " ", "x" * 256, '"', 'a"b', "\u00e4", "a b"):
        status, problem, _ = await create(owner, {HEADER: bad})
        assert (status, HEADER in problem["detail"]) == (400, True), bad


async def test_what_failed_is_not_remembered(owner: Client) -> None:
    headers, code = key(), f"c-{uuid.uuid4().hex}"
    _, taken, _ = await create(owner, {}, code=code)
    assert (await create(owner, headers, code=code))[0] == 409
    assert (await create(owner, headers, url="nonsense", code=code))[0] == 422
    assert (await create(owner, headers))[0] == 201
    assert taken["code"] == code


async def test_many_at_once_make_one_link(owner: Client) -> None:
    headers = key()
    answers = await asyncio.gather(*(create(owner, headers) for _ in range(8)))
    assert {status for status, _, _ in answers} == {201}
    assert len({link["code"] for _, link, _ in answers}) == 1
    assert sum(REPLAYED not in answered for _, _, answered in answers) == 1
    assert await count(owner) == 1


async def test_one_that_takes_long_is_waited_for_and_then_reported(
    owner: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("linkrift.api.idempotency.WAIT_MILLISECONDS", 50)
    headers, entered, go_on = key(), asyncio.Event(), asyncio.Event()
    real = Links.create

    async def slow(*arguments: Any) -> Any:
        entered.set()
        await go_on.wait()
        return await real(*arguments)

    monkeypatch.setattr(Links, "create", slow)
    first = asyncio.create_task(create(owner, headers))
    await entered.wait()
    status, _, answered = await create(owner, headers)
    assert (status, answered["Retry-After"]) == (409, "1")
    go_on.set()
    assert (await first)[0] == 201
    status, link, _ = await create(owner, headers)
    assert (status, link) == (201, (await first)[1])


@pytest.mark.parametrize("step", ["before the link", "after the link", "after the answer was kept", "after the commit"])
async def test_a_crash_leaves_one_link_or_none_and_the_next_try_makes_it_one(
    owner: Client, postgresql: PostgresqlServer, monkeypatch: pytest.MonkeyPatch, redis: Redis, step: str
) -> None:
    """The server's side of the connection is killed, as it is when the process dies; what was not committed is gone."""
    headers = key()

    def kill() -> None:
        postgresql.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'linkrift_api'")

    def killing(method: Any, *, before: bool) -> Any:
        async def killed(*arguments: Any, **named: Any) -> Any:
            if before:
                kill()
            result = await method(*arguments, **named)
            if not before:
                kill()
                raise SystemError("the process is gone")
            return result

        return killed

    async def lost(*_: object) -> None:
        raise SystemError("the process is gone")

    with monkeypatch.context() as patched:
        if step in ("before the link", "after the link"):
            patched.setattr(Links, "create", killing(Links.create, before=step == "before the link"))
        elif step == "after the answer was kept":
            patched.setattr(_KeyedAttempt, "keep", killing(_KeyedAttempt.keep, before=False))
        else:
            patched.setattr(Invalidation, "announce", lost)
        await create(owner, headers)
    committed = step == "after the commit"
    assert await count(owner) == committed
    status, link, answered = await create(owner, headers)
    assert (status, answered.get(REPLAYED)) == (201, "true" if committed else None)
    assert await count(owner) == 1
    # Whether or not the first one came to it: redirect processes know of the link now.
    assert await redis.exists(f"linkrift:link:{link['code']}")


async def test_after_a_day_a_key_is_a_new_one_and_old_ones_are_deleted(
    owner: Client, postgresql: PostgresqlServer
) -> None:
    first, second = key(), key()
    _, old, _ = await create(owner, first)
    await create(owner, second)
    postgresql.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours'")
    assert (await create(owner, first))[1] == old
    postgresql.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    status, new, answered = await create(owner, first, title="Other")
    assert (status, REPLAYED in answered, new["title"]) == (201, False, "Other")
    assert new["code"] != old["code"]
    service: Any = owner.running.service
    idempotency: Idempotency = service._idempotency
    assert await idempotency.clean() >= 1
    assert await idempotency.clean() == 0
    assert (await create(owner, first, title="Other"))[1] == new


async def test_what_is_stored_does_not_give_key_or_body_away(owner: Client, postgresql: PostgresqlServer) -> None:
    headers = key()
    for each in (headers, key()):
        assert (await create(owner, each, password="open sesame"))[0] == 201
    connection = postgresql.connect()
    with connection.cursor() as cursor:
        cursor.execute("SELECT key_digest, fingerprint, answer FROM idempotency_keys ORDER BY created_at DESC LIMIT 2")
        rows = cursor.fetchall()
    connection.close()
    stored = b"".join(bytes(digest) + bytes(fingerprint) + answer.encode() for digest, fingerprint, answer in rows)
    # Whoever guesses the body cannot tell that it was this one, without the key.
    assert len({bytes(fingerprint) for _, fingerprint, _ in rows}) == len(rows) >= 2
    for hidden in ("open sesame", headers[HEADER]):
        assert hidden.encode() not in stored


async def test_without_the_database_there_is_no_answer_and_no_link(
    environment: dict[str, str], postgresql: PostgresqlServer, owner: Client
) -> None:
    headers = key()
    postgresql.process.stop()
    try:
        status, _, answered = await create(owner, headers)
        assert (status, answered["Retry-After"]) == (503, "5")
    finally:
        postgresql.process.start()
    async with running("api", variables_of("api", environment, postgresql)) as api:
        again = Client(owner.session, api.url, api, owner.headers)
        assert (await create(again, headers))[0] == 201
        assert await count(again) == 1

"""What visitors get while Redis or PostgreSQL is away, in each way in which it can be; nothing here is made up.

That nobody waits is shown by counting: of many visitors only the first few may have asked a store that does not answer.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import aiohttp
import pytest
import redis as blocking_redis
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from app.tests.servers.harness import Running, eventually, running, variables_of
from app.tests.servers.test_programs import insert_link
from linkrift.api.invalidation import Invalidation
from linkrift.api.settings import read_settings as read_api_settings
from linkrift.breaker import State
from linkrift.links import LinkState
from linkrift.redirect.service import RedirectService
from linkrift.redis_client import connect_guarded
from tools.testing.process import free_port
from tools.testing.servers import PostgresqlServer, RedisServer

VISITORS = 15
# Three that wait until it is clear that the store hangs, and as many that came meanwhile.
FEW = 8


@dataclass
class Site:
    """The redirect service with its stores."""

    redirect: Running
    session: aiohttp.ClientSession
    postgresql: PostgresqlServer

    @property
    def service(self) -> RedirectService:
        assert isinstance(self.redirect.service, RedirectService)
        return self.redirect.service

    async def follow(self, code: str) -> tuple[int, str | None]:
        async with self.session.get(f"{self.redirect.url}/{code}", allow_redirects=False) as response:
            if response.status == 503:
                assert response.headers["Retry-After"]
            return response.status, response.headers.get("Location")

    async def leads(self, code: str) -> bool:
        return await self.follow(code) == (302, f"https://example.org/{code}")

    def make_link(self) -> str:
        code = f"outage-{uuid.uuid4().hex}"
        insert_link(self.postgresql, code)
        return code

    async def known_links(self, count: int) -> list[str]:
        """Return links that the process has in memory."""
        codes = [self.make_link() for _ in range(count)]
        assert all(await asyncio.gather(*map(self.leads, codes)))
        return codes

    def forget(self, *codes: str) -> None:
        """Let them be in memory no more."""
        for code in codes:
            self.service._lookup.forget(code)

    async def is_healthy(self) -> bool:
        async with self.session.get(f"{self.redirect.url}/health") as response:
            return response.status == 200

    async def until_asked_again(self, dependency: str) -> None:
        async def asked() -> bool:
            return shown("linkrift_breaker_state", dependency) == State.CLOSED

        await eventually(asked, f"{dependency} is asked again")


@pytest.fixture
async def site(environment: dict[str, str], postgresql: PostgresqlServer) -> AsyncIterator[Site]:
    variables = variables_of("redirect", environment, postgresql)
    async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:
        yield Site(redirect, session, postgresql)


def shown(name: str, dependency: str) -> float:
    return REGISTRY.get_sample_value(name, {"dependency": dependency}) or 0.0


def failures(dependency: str) -> float:
    """Return how many calls a store did not answer; those that were not made are not among them."""
    return shown("linkrift_dependency_errors_total", dependency)


class RedisOutages:
    """Ways in which Redis can fail us."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._admin = blocking_redis.Redis.from_url(server.url)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self._server.process.stop()
        try:
            yield
        finally:
            self._server.process.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        self._server.process.freeze()
        try:
            yield
        finally:
            self._server.process.thaw()

    @contextmanager
    def out_of_memory(self) -> Iterator[None]:
        self._admin.config_set("maxmemory-policy", "noeviction")
        self._admin.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            self._admin.config_set("maxmemory", "0")
            self._admin.config_set("maxmemory-policy", "volatile-lru")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._do("REPLICAOF 127.0.0.1 1")
        try:
            yield
        finally:
            self._do("REPLICAOF NO ONE")

    @contextmanager
    def wrong_password(self) -> Iterator[None]:
        user = "linkrift_redirect"
        self._do(f"ACL SETUSER {user} resetpass >another")
        self._do(f"CLIENT KILL USER {user}")
        try:
            yield
        finally:
            self._do(f"ACL SETUSER {user} resetpass >{self._server.passwords[user]}")

    def close(self) -> None:
        self._admin.close()

    def _do(self, command: str) -> None:
        self._admin.execute_command(*command.split())  # type: ignore[no-untyped-call] # the library declares none


class PostgresqlOutages:
    """Ways in which PostgreSQL can fail us."""

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server

    @contextmanager
    def stopped(self) -> Iterator[None]:
        self._server.process.stop()
        try:
            yield
        finally:
            self._server.process.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        self._server.process.freeze()
        try:
            yield
        finally:
            self._server.process.thaw()

    @contextmanager
    def out_of_connections(self) -> Iterator[None]:
        self._as_administrator("ALTER ROLE linkrift_redirect CONNECTION LIMIT 0")
        self._as_administrator(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'linkrift_redirect'"
        )
        try:
            yield
        finally:
            self._as_administrator("ALTER ROLE linkrift_redirect CONNECTION LIMIT -1")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self._as_administrator("ALTER SYSTEM SET default_transaction_read_only = on")
        self._as_administrator("SELECT pg_reload_conf()")
        try:
            yield
        finally:
            self._as_administrator("ALTER SYSTEM RESET default_transaction_read_only")
            self._as_administrator("SELECT pg_reload_conf()")

    @contextmanager
    def one_connection(self) -> Iterator[None]:
        with self.out_of_connections():
            self._as_administrator("ALTER ROLE linkrift_redirect CONNECTION LIMIT 1")
            yield

    def _as_administrator(self, statement: str) -> None:
        self._server.execute(statement, "postgres", "postgres")


@pytest.fixture
def redis_outages(redis_process: RedisServer) -> Iterator[RedisOutages]:
    with closing(RedisOutages(redis_process)) as outages:
        yield outages


@pytest.mark.parametrize("way", ["stopped", "hung", "out_of_memory", "read_only", "wrong_password"])
async def test_redis_is_away(site: Site, redis_outages: RedisOutages, way: str) -> None:
    (known,) = await site.known_links(1)
    await site.until_asked_again("redis")
    others = [site.make_link() for _ in range(VISITORS)]
    before = failures("redis")
    with getattr(redis_outages, way)():
        assert await site.leads(known)
        for code in others:
            assert await site.leads(code)
        assert await site.follow("nothing-here") == (404, None)
        # No message says that it changed, and Redis may have the old target for minutes.
        site.postgresql.execute(f"UPDATE links SET original_url = 'https://new.example/' WHERE short_code = '{known}'")

        async def moved() -> bool:
            return await site.follow(known) == (302, "https://new.example/")

        await eventually(moved, "the new target")
        assert await site.is_healthy()
        if way not in ("out_of_memory", "read_only"):  # it answers reads
            assert failures("redis") - before <= FEW
            assert shown("linkrift_breaker_state", "redis") != State.CLOSED
    await site.until_asked_again("redis")
    assert await site.leads(site.make_link())


@pytest.mark.parametrize("way", ["stopped", "hung", "out_of_connections"])
async def test_postgresql_is_away(site: Site, redis: Redis, way: str) -> None:
    known = await site.known_links(VISITORS)
    in_redis, changed = f"{known[0]}-redis", known[1]
    await redis.flushall()
    await redis.set(f"linkrift:link:{in_redis}", LinkState(f"https://example.org/{in_redis}", 1).encode())
    before = failures("postgresql")
    with getattr(PostgresqlOutages(site.postgresql), way)():
        # Each of them may have changed, and nobody can say.
        site.service._lookup.doubt_all()
        for code in known:
            assert await site.leads(code)
        for number in range(VISITORS):
            assert await site.follow(f"nothing-here-{number}") == (503, None)
        assert await site.leads(in_redis)
        # A message tells of a change that PostgreSQL cannot tell us: rather no answer than the old one.
        await redis.publish("linkrift:invalidate", f"{changed} 2")

        async def refused() -> bool:
            return await site.follow(changed) == (503, None)

        await eventually(refused, "the old target is not served")
        assert await site.is_healthy()
        assert failures("postgresql") - before <= FEW
        assert shown("linkrift_breaker_state", "postgresql") != State.CLOSED
    await site.until_asked_again("postgresql")
    assert await site.follow("nothing-here") == (404, None)
    assert await site.leads(changed)


async def test_postgresql_is_read_only(site: Site, redis: Redis) -> None:
    known, unread = await site.known_links(1), site.make_link()
    opened = shown("linkrift_breaker_opened_total", "postgresql")
    with PostgresqlOutages(site.postgresql).read_only():
        await redis.flushall()
        site.service._lookup.doubt_all()
        assert await site.leads(known[0])
        assert await site.leads(unread)
        assert await site.follow("nothing-here") == (404, None)
    assert shown("linkrift_breaker_opened_total", "postgresql") == opened


async def test_one_connection_is_enough_for_all(site: Site) -> None:
    codes = [site.make_link() for _ in range(VISITORS)]
    with PostgresqlOutages(site.postgresql).one_connection():
        await site.follow("nothing-here")
        await site.until_asked_again("postgresql")
        assert all(await asyncio.gather(*map(site.leads, codes)))


async def test_while_both_hang_nobody_waits_long(site: Site, redis_outages: RedisOutages) -> None:
    known = await site.known_links(VISITORS)
    site.service._lookup.doubt_all()
    before = failures("postgresql") + failures("redis")
    with redis_outages.hung(), PostgresqlOutages(site.postgresql).hung():
        for _ in range(3):
            for code in known:
                assert await site.leads(code)
        assert await site.follow("nothing-here") == (503, None)
        assert failures("postgresql") + failures("redis") - before <= 2 * FEW
        assert await site.is_healthy()
    await site.until_asked_again("postgresql")
    await site.until_asked_again("redis")


async def test_a_change_that_nobody_announced(site: Site, redis: Redis) -> None:
    """The API was killed between its commit and the message: memory and Redis still have the old target."""
    (code,) = await site.known_links(1)

    async def kept() -> bool:
        return bool(await redis.exists(f"linkrift:link:{code}"))

    await eventually(kept, "Redis has the link")
    site.postgresql.execute(f"UPDATE links SET original_url = 'https://new.example/' WHERE short_code = '{code}'")

    async def moved() -> bool:
        return await site.follow(code) == (302, "https://new.example/")

    await eventually(moved, "the new target")
    site.forget(code)
    assert await moved(), "Redis is not believed"


async def test_a_new_process_knows_what_the_last_one_did(
    environment: dict[str, str], postgresql: PostgresqlServer, redis: Redis
) -> None:
    variables = variables_of("redirect", environment, postgresql)
    async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:
        codes = await Site(redirect, session, postgresql).known_links(3)
    async with running("redirect", variables) as redirect:
        assert isinstance(redirect.service, RedirectService)
        assert sorted(redirect.service._cache.links) == sorted(codes)
    # Nor does it need PostgreSQL for that.
    with PostgresqlOutages(postgresql).out_of_connections():
        async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:
            site = Site(redirect, session, postgresql)
            assert all([await site.leads(code) for code in codes])


async def test_a_replica_is_asked_and_missed_by_nobody(
    environment: dict[str, str], postgresql: PostgresqlServer, redis: Redis
) -> None:
    hosts = f"{postgresql.host}:{postgresql.port},127.0.0.1:{free_port()}"
    variables = variables_of("redirect", environment, postgresql, LINKRIFT_DB_REPLICA_HOSTS=hosts)
    async with running("redirect", variables) as redirect, aiohttp.ClientSession() as session:
        site = Site(redirect, session, postgresql)
        for code in [site.make_link() for _ in range(VISITORS)]:
            assert await site.leads(code)
        assert await site.follow("nothing-here") == (404, None)
    assert failures("postgresql-replica-1") == 0
    assert 0 < failures("postgresql-replica-2") <= FEW


@pytest.mark.parametrize("way", ["out_of_memory", "read_only"])
async def test_changes_are_announced_while_redis_takes_none(
    environment: dict[str, str],
    postgresql: PostgresqlServer,
    redis: Redis,
    redis_outages: RedisOutages,
    way: str,
) -> None:
    settings = read_api_settings(variables_of("api", environment, postgresql)).redis
    client = connect_guarded(settings, "test")
    api = Invalidation(client)
    await api.announce("abc", LinkState("https://old.example/", 1))
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("linkrift:invalidate")
        assert await pubsub.get_message(timeout=5.0) is not None
        with getattr(redis_outages, way)():
            await api.announce("abc", LinkState("https://new.example/", 2))
            heard = await pubsub.get_message(timeout=5.0)
            assert heard is not None
            assert heard["data"] == b"abc 2"
            assert "old" in str(await redis.get("linkrift:link:abc"))
    await api.send_pending()
    assert "new" in str(await redis.get("linkrift:link:abc"))
    await client.aclose()

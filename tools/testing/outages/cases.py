"""What goes away, how, for how long, and what is to be seen meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

# What is asked while something is away: three of the API, two of visitors whom no process knows the answer for.
QUESTIONS = ("read", "write", "stats", "unread", "unknown")
# ClickHouse is away all the while.
_NORMAL = {"read": 200, "write": 201, "stats": 503, "unread": 302, "unknown": 404}

# As docs/stores.md has it.
_REDIS = """
redis() {
  export REDISCLI_AUTH=$(cat /root/.linkrift-redis-admin)
  redis-cli -e -s /run/redis/redis-server.sock --user linkrift_admin "$@"
}
"""
_PSQL = 'psql() { runuser -u postgres -- psql --no-psqlrc --quiet --no-align --tuples-only -c "$1"; }\n'
_CLUSTER = 'unit=$(pg_lsclusters --no-header | awk \'{print "postgresql@" $1 "-" $2 ".service"; exit}\')\n'


@dataclass(frozen=True)
class Case:
    """A way in which a store is away.

    Attributes:
        name: What it is called.
        group: Inventory group of the host that has the store.
        begin: What is done there, by root's shell; `end`: what undoes it.
        end: See there.
        seconds: For how long, in the small form; `long`: in the long one.
        long: See there.
        answers: Status of each of QUESTIONS meanwhile.
        breaker: The store that redirects stop asking; empty: they go on asking.
        spooled: Whether clicks go to the disk.
        again: Status of questions of the API once the store is back.
    """

    name: str
    group: str
    begin: str
    end: str
    seconds: float = 3.0
    long: float = 60.0
    answers: Mapping[str, int] = field(default_factory=lambda: MappingProxyType(_NORMAL))
    breaker: str = ""
    spooled: bool = False
    again: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({"read": 200, "write": 201}))

    def lasts(self, *, long: bool) -> float:
        """Return for how many seconds it lasts at least."""
        return self.long if long else self.seconds


def _redis(name: str, begin: str, end: str, *, breaker: str = "") -> Case:
    """Visitors notice nothing: links come from memory and PostgreSQL. Clicks wait on the disk."""
    return Case(name, "redis_hosts", _REDIS + begin, _REDIS + end, breaker=breaker, spooled=True)


def _postgresql(name: str, begin: str, end: str, *, gone: bool = True) -> Case:
    """Links in memory and in Redis lead on. Who needs to know more gets 503; where it is only read-only, who writes."""
    away = {"read": 503, "write": 503, "stats": 503, "unread": 302, "unknown": 503}
    answers = MappingProxyType(away if gone else {**_NORMAL, "write": 503})
    group, breaker = "postgresql_hosts", "postgresql" if gone else ""
    return Case(name, group, _PSQL + _CLUSTER + begin, _PSQL + _CLUSTER + end, answers=answers, breaker=breaker)


REDIS = (
    _redis("Redis stopped", "systemctl stop redis-server", "systemctl start redis-server", breaker="redis"),
    _redis(
        "Redis hung",
        "systemctl kill --signal=STOP redis-server",
        "systemctl kill --signal=CONT redis-server",
        breaker="redis",
    ),
    _redis(
        "Redis out of memory",
        "redis CONFIG GET maxmemory | tail -1 > /run/linkrift-outages/maxmemory\n"
        "redis CONFIG SET maxmemory-policy noeviction maxmemory 1mb",
        "redis CONFIG SET maxmemory-policy volatile-lru maxmemory $(cat /run/linkrift-outages/maxmemory)",
    ),
    _redis(
        "Redis read-only",
        "redis ACL SETUSER linkrift_admin +replicaof\nredis REPLICAOF 127.0.0.1 1",
        "redis REPLICAOF NO ONE\nredis ACL SETUSER linkrift_admin -replicaof",
    ),
    _redis(
        "Redis with another password",
        "redis ACL SETUSER linkrift_redirect resetpass '>another'\nredis CLIENT KILL USER linkrift_redirect",
        # As the file has it.
        "redis ACL SETUSER linkrift_redirect resetpass"
        " $(awk '$2 == \"linkrift_redirect\"' /etc/redis/users.acl | grep -o '#[0-9a-f]*')",
        breaker="redis",
    ),
)
POSTGRESQL = (
    _postgresql("PostgreSQL stopped", "systemctl stop $unit", "systemctl start $unit"),
    _postgresql("PostgreSQL hung", "systemctl kill --signal=STOP $unit", "systemctl kill --signal=CONT $unit"),
    _postgresql(
        "PostgreSQL out of connections",
        "systemd-run --quiet --collect --unit=linkrift-occupy --uid=postgres --service-type=notify"
        " --property=LimitNOFILE=4096 python3 /run/linkrift-outages/occupy.py",
        "systemctl stop linkrift-occupy",
    ),
    _postgresql(
        "PostgreSQL read-only",
        "psql 'ALTER SYSTEM SET default_transaction_read_only = on'\npsql 'SELECT pg_reload_conf()'",
        "psql 'ALTER SYSTEM RESET default_transaction_read_only'\npsql 'SELECT pg_reload_conf()'",
        gone=False,
    ),
)
_COUNTED = MappingProxyType({"read": 200, "write": 201, "stats": 200})
CLICKHOUSE = Case(
    "ClickHouse stopped",
    "clickhouse_hosts",
    "systemctl stop clickhouse-server",
    "systemctl start clickhouse-server",
    # Longer than workers leave each other's batches alone.
    seconds=120.0,
    long=300.0,
    # Not because of it: Redis is away meanwhile.
    spooled=True,
    again=_COUNTED,
)
# In the long form only: those who find out wait a quarter of a minute.
CLICKHOUSE_HUNG = Case(
    "ClickHouse hung",
    "clickhouse_hosts",
    "systemctl kill --signal=STOP clickhouse-server",
    "systemctl kill --signal=CONT clickhouse-server",
    again=_COUNTED,
)
CASES = (*REDIS, *POSTGRESQL, CLICKHOUSE)
LONG_CASES = (CLICKHOUSE_HUNG,)

"""What the stores let each service do, and nobody else; how they are set; seen from the hosts that use them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tools.testing.lab_hosts import APP_HOSTS, find_lab, get_host, run_json, secret, variables

SERVICES = ("api", "redirect", "worker")

# Each runs on app1, in the release's environment: {case: setup} comes in, {case: [answer or error, ...]} goes out.
PYTHON = "/opt/linkrift/api/current/venv/bin/python"
ASK_POSTGRESQL = """
import json, psycopg2, sys
def ask(setup):
    for statement in setup["statements"]:
        connection = psycopg2.connect(
            host=setup["host"], dbname="linkrift", user=setup["user"], password=setup["password"],
            sslmode="verify-full", sslrootcert="/etc/linkrift/tls/ca.pem", connect_timeout=5)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                yield cursor.fetchone()[0] if cursor.description else "done"
        except psycopg2.Error as error:
            yield type(error).__name__
        connection.close()
print(json.dumps({case: list(ask(setup)) for case, setup in json.load(sys.stdin).items()}))
"""
ASK_REDIS = """
import json, redis, redis.backoff, redis.retry, sys
def ask(setup):
    options = {}
    if setup["tls"]:
        options = dict(ssl=True, ssl_ca_certs="/etc/linkrift/tls/ca.pem", ssl_check_hostname=True)
    client = redis.Redis(
        host=setup["host"], port=6379, username=setup["user"], password=setup["password"], socket_timeout=2,
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0), **options)
    for words in setup["statements"]:
        try:
            yield str(client.execute_command(*words.split()))
        except redis.RedisError as error:
            yield type(error).__name__
print(json.dumps({case: list(ask(setup)) for case, setup in json.load(sys.stdin).items()}))
"""
ASK_CLICKHOUSE = """
import clickhouse_driver, json, logging, sys
from clickhouse_driver.errors import Error
logging.disable()
def ask(setup):
    for statement in setup["statements"]:
        client = clickhouse_driver.Client(
            setup["host"], port=9440, user=setup["user"], password=setup["password"], database="linkrift_analytics",
            secure=setup["tls"], ca_certs="/etc/linkrift/tls/ca.pem", connect_timeout=2, send_receive_timeout=5)
        try:
            yield str(client.execute(statement))
        except (Error, EOFError, OSError) as error:
            yield "code %s" % error.code if getattr(error, "code", None) else type(error).__name__
        client.disconnect()
print(json.dumps({case: list(ask(setup)) for case, setup in json.load(sys.stdin).items()}))
"""
ADMIN = (
    "REDISCLI_AUTH=$(cat /root/.linkrift-redis-admin) redis-cli -s /run/redis/redis-server.sock --user linkrift_admin"
)

Answers = dict[str, list[Any]]


def ask(program: str, cases: dict[str, dict[str, Any]]) -> Answers:
    """Ask a store from app1."""
    answers = run_json(get_host("app1"), "printf '%%s' %s | " + PYTHON + " -c %s", json.dumps(cases), program)
    for case, setup in cases.items():
        assert len(answers[case]) == len(setup["statements"])
    return dict(answers)


def user(store: str, name: str, service: str, *statements: str, **more: Any) -> dict[str, Any]:
    """Return what a case needs: a service's user of a store, and what it asks."""
    domain = variables("app1")["linkrift_internal_domain"]
    password = secret(f"{store}_{service}_password")
    base = {"host": f"{name}.{domain}", "user": f"linkrift_{service}", "password": password, "tls": True}
    return {**base, "statements": statements, **more}


# --- PostgreSQL

DENIED = {
    "redirect": (
        "SET TRANSACTION READ WRITE; DELETE FROM links",
        "SELECT count(*) FROM users",
        "SET TRANSACTION READ WRITE; CREATE TABLE mine (id int)",
    ),
    "worker": ("DELETE FROM users", "SELECT original_url FROM links LIMIT 1", "UPDATE links SET original_url = ''"),
    "api": ("DROP TABLE links", "CREATE TABLE mine (id int)", "SET ROLE linkrift_owner"),
}
READS = ("SELECT count(*) >= 0 FROM links", "SHOW transaction_read_only", "SHOW statement_timeout")


@pytest.fixture(scope="module")
def postgresql() -> Answers:
    cases = {f"denied {role}": user("postgresql", "db", role, *statements) for role, statements in DENIED.items()}
    cases["tls"] = user("postgresql", "db", "api", "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    cases["reads"] = user("postgresql", "db", "redirect", *READS)
    return ask(ASK_POSTGRESQL, cases)


def test_postgresql_is_reached_by_tls(postgresql: Answers) -> None:
    assert postgresql["tls"] == ["TLSv1.3"]


@pytest.mark.parametrize("role", SERVICES)
def test_postgresqls_roles_have_the_least_privilege(postgresql: Answers, role: str) -> None:
    assert postgresql[f"denied {role}"] == ["InsufficientPrivilege"] * len(DENIED[role])


def test_redirect_reads_links_and_nothing_it_asks_runs_for_long(postgresql: Answers) -> None:
    assert postgresql["reads"] == [True, "on", "5s"]


def test_postgresql_is_set_as_it_should_be() -> None:
    settings = {
        "data_checksums": "on",
        "password_encryption": "scram-sha-256",
        "ssl_min_protocol_version": "TLSv1.2",
        "shared_preload_libraries": "pg_stat_statements",
        "session_preload_libraries": "",
        "shared_buffers": f"{variables('data1')['postgresql_memory_mb'] // 4}MB",
        "autovacuum_vacuum_scale_factor": "0.05",
    }
    names = [f"current_setting('{name}')" for name in settings]
    asked = [
        *(*names, "(SELECT count(*) > 0 FROM pg_stat_statements)"),
        "(SELECT array_to_string(reloptions, ' ') FROM pg_class WHERE relname = 'links')",
    ]
    command = "sudo -u postgres psql -XAt -d linkrift -c %s"
    *found, counts, tuned = get_host("data1").check_output(command, f"SELECT {', '.join(asked)}").split("|")
    assert found == list(settings.values())
    assert counts == "t"
    assert sorted(tuned.split()) == [
        "autovacuum_analyze_scale_factor=0.02",
        "autovacuum_vacuum_cost_delay=10",
        "autovacuum_vacuum_scale_factor=0.05",
    ]


# --- Redis

NOBODY_MAY = (
    *("KEYS *", "CONFIG GET dir", "MODULE LIST", "ACL LIST", "SORT linkrift:clicks", "MONITOR", "CLIENT LIST"),
    *("GET other", "SCAN 0", "XINFO STREAM linkrift:clicks"),
)
# Asked for without being done: where rights are wrong, nothing is lost.
DESTROYS = (
    *("FLUSHALL", "FLUSHDB", "SHUTDOWN", "SAVE", "REPLICAOF NO ONE", "DEL linkrift:clicks", "SET linkrift:clicks x"),
    *("XGROUP DESTROY linkrift:clicks linkrift-worker", "XTRIM linkrift:clicks MAXLEN 0", "CONFIG SET port 1"),
    *("DEBUG SLEEP 0", "MIGRATE x 1 linkrift:clicks 0 1", "RENAME linkrift:clicks other"),
)
KEY = "linkrift:link:test-of-rights"
DOES = {
    "api": {f"SET {KEY} x EX 5": "True", f"GET {KEY}": "b'x'", "XADD linkrift:clicks * events []": "NoPermissionError"},
    "redirect": {"PUBLISH linkrift:invalidate x": "NoPermissionError", "XLEN linkrift:clicks": "NoPermissionError"},
    "worker": {f"GET {KEY}": "NoPermissionError", "XADD linkrift:clicks * events []": "NoPermissionError"},
}


@pytest.fixture(scope="module")
def redis() -> Answers:
    cases = {f"denied {service}": user("redis", "redis", service, *NOBODY_MAY) for service in SERVICES}
    cases |= {f"does {service}": user("redis", "redis", service, "PING", *DOES[service]) for service in SERVICES}
    cases["plain"] = user("redis", "redis", "api", "PING", tls=False)
    cases["wrong"] = user("redis", "redis", "api", "PING", password="wrong" * 4)
    return ask(ASK_REDIS, cases)


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_can_destroy_what_is_in_redis(redis: Answers, service: str) -> None:
    assert redis[f"denied {service}"] == ["NoPermissionError"] * len(NOBODY_MAY)
    asked = "; ".join(f"{ADMIN} acl dryrun linkrift_{service} {words}" for words in DESTROYS)
    answers = get_host("data1").check_output(asked).splitlines()
    assert len([line for line in answers if "has no permissions to " in line]) == len(DESTROYS), answers


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_does_its_own_in_redis_and_not_the_others(redis: Answers, service: str) -> None:
    assert redis[f"does {service}"] == ["True", *DOES[service].values()]


def test_redis_takes_tls_only_and_nobody_without_a_password(redis: Answers) -> None:
    assert redis["plain"][0] in {"ConnectionError", "TimeoutError"}
    assert redis["wrong"] == ["AuthenticationError"]
    ca = "/etc/linkrift/tls/ca.pem"
    by_tls = f"redis-cli --tls --cacert {ca} -h redis.{variables('data1')['linkrift_internal_domain']} ping"
    answers = get_host("data1").run(f"{by_tls}; redis-cli -s /run/redis/redis-server.sock ping").stdout
    assert answers.count("NOAUTH") == 2


def test_operators_look_at_redis_and_cannot_empty_it() -> None:
    host = get_host("data1")
    wished = {
        "maxmemory-policy": "volatile-lru",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "port": "0",
        "maxmemory": str(variables("data1")["redis_maxmemory_mb"] * 1024**2),
    }
    found = host.check_output(f"{ADMIN} --raw config get " + " ".join(wished)).splitlines()
    assert dict(zip(found[::2], found[1::2], strict=True)) == wished
    forbidden = ("flushall", "keys x", "shutdown", "module list", "replicaof no one", "save", "swapdb 0 1", "acl save")
    answers = host.check_output("; ".join(f"{ADMIN} acl dryrun linkrift_admin {words}" for words in forbidden))
    assert answers.count("has no permissions to ") == len(forbidden), answers
    # What was denied above came from connections without a name. The services' have one, and were denied nothing.
    log = host.check_output(
        f"stat -c %a /root/.linkrift-redis-admin; {ADMIN} --raw acl log 100; {ADMIN} info persistence"
    )
    assert log.startswith("600\n")
    assert "name=linkrift-" not in log
    assert "rdb_last_bgsave_status:ok" in log


# --- ClickHouse

READ, WRITE = "SELECT count() >= 0 FROM clicks", "INSERT INTO clicks (code) SELECT 'x' WHERE 0"


@pytest.fixture(scope="module")
def clickhouse() -> Answers:
    make = "CREATE TABLE mine (x UInt8) ENGINE = Memory"
    cases = {
        "api": user("clickhouse", "clickhouse", "api", READ, WRITE, "DROP TABLE clicks", make),
        "worker": user(
            "clickhouse", "clickhouse", "worker", READ, WRITE, "CREATE TABLE default.mine (x UInt8) ENGINE = Log"
        ),
        "plain": user("clickhouse", "clickhouse", "api", "SELECT 1", tls=False),
        "wrong": user("clickhouse", "clickhouse", "api", "SELECT 1", password="wrong" * 4),
        "admin": user("clickhouse", "clickhouse", "admin", "SELECT 1"),
    }
    return ask(ASK_CLICKHOUSE, cases)


def test_the_api_reads_clicks_and_the_worker_writes_them(clickhouse: Answers) -> None:
    # 164: read only; 291: no access to that database.
    assert clickhouse["api"] == ["[(1,)]", "code 164", "code 164", "code 164"]
    assert clickhouse["worker"] == ["[(1,)]", "[]", "code 291"]


def test_clickhouse_takes_tls_only_from_where_services_run(clickhouse: Answers) -> None:
    assert clickhouse["plain"] == ["code 210"], "a network error"
    # 192: unknown user, 193: wrong password, 195: not from this address, 516: one of these (current versions).
    assert clickhouse["wrong"][0] in {"code 193", "code 516"}
    assert clickhouse["admin"][0] in {"code 195", "code 516"}, "operators are on its own host"
    # The package's user without a password is gone.
    assert get_host("data1").run("HOME=/nonexistent clickhouse-client --secure --port 9440 --query 'SELECT 1'").rc != 0


def test_clickhouse_is_bounded() -> None:
    memory = variables("data1")["clickhouse_memory_mb"] * 1024**2
    asked = (
        "SELECT value FROM system.settings WHERE name = 'max_memory_usage'",
        "SELECT value FROM system.settings WHERE name = 'max_memory_usage_for_user'",
        "SELECT toString(count()) FROM system.tables WHERE database = 'system' AND name LIKE '%_log'",
    )
    commands = [f'HOME=/root clickhouse-client --query "{query}"' for query in asked]
    commands.append("systemctl show --property=MemoryMax clickhouse-server.service")
    assert get_host("data1").check_output("; ".join(commands)).splitlines() == [
        str(memory // 2),
        str(memory * 7 // 10),
        "0",
        f"MemoryMax={memory // 1024**2 * 5 // 4 * 1024**2}",
    ]


# --- The API's audit log


def test_the_audit_log_says_who_did_what() -> None:
    lab = find_lab()
    # A login that fails, of somebody who does not exist.
    answer = get_host("client1").check_output(
        "curl -sk -o /dev/null -D - --resolve %s %s -H %s -d %s",
        f"api.{lab.domain}:443:{lab.balancer}",
        f"https://api.{lab.domain}/api/v1/auth/login",
        "Content-Type: application/json",
        json.dumps({"email": "nobody@example.org", "password": "not a password of anybody"}),
    )
    request = next(
        line.split(":", 1)[1].strip() for line in answer.splitlines() if line.lower().startswith("x-request-id:")
    )
    logs = [get_host(name).file("/var/log/linkrift/audit.log") for name in APP_HOSTS]
    found = [
        (log, line)
        for log in logs
        if log.exists
        for text in log.content_string.splitlines()
        if (line := json.loads(text)).get("request_id") == request
    ]
    assert len(found) == 1
    log, line = found[0]
    assert (log.user, log.group, log.mode) == ("linkrift", "adm", 0o640)
    assert {"time", "action", "outcome", "account", "network", "request_id"} <= set(line)
    assert "not a password" not in log.content_string

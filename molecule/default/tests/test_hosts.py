"""What role base and the data roles promise, seen from the hosts."""

from __future__ import annotations

import pytest

from tools.testing.lab_hosts import ALL_HOSTS, APP_HOSTS, get_host, secret, variables


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_the_system_user_can_neither_log_in_nor_become_root(name: str) -> None:
    host = get_host(name)
    user = host.user("linkrift")
    assert user.shell in {"/usr/sbin/nologin", "/bin/false"}
    assert host.run("sudo -l -U linkrift").stdout.count("not allowed") == 1


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_the_firewall_denies_by_default(name: str) -> None:
    status = get_host(name).check_output("ufw status verbose")
    assert "Status: active" in status
    assert "Default: deny (incoming)" in status


@pytest.mark.parametrize("name", ALL_HOSTS)
def test_no_unit_failed(name: str) -> None:
    assert get_host(name).check_output("systemctl list-units --state=failed --plain --no-legend") == ""


@pytest.mark.parametrize("name", APP_HOSTS)
@pytest.mark.parametrize(
    ("alias", "target"), [("db", "data1"), ("redis", "data1"), ("clickhouse", "data1"), ("bundles", "ops1")]
)
def test_internal_names_resolve(name: str, alias: str, target: str) -> None:
    domain = variables(name)["linkrift_internal_domain"]
    found = get_host(name).check_output("getent ahosts %s", f"{alias}.{domain}")
    assert variables(target)["linkrift_address"] in found
    assert variables(target)["linkrift_address6"] in found


SQL = """
import os, psycopg2, sys
user, password, statement = sys.argv[1], sys.stdin.readline().strip(), sys.argv[2]
connection = psycopg2.connect(
    host=sys.argv[3], dbname="linkrift", user=user, password=password,
    sslmode="verify-full", sslrootcert="/etc/linkrift/tls/ca.pem", connect_timeout=5)
with connection, connection.cursor() as cursor:
    cursor.execute(statement)
    print(cursor.fetchone()[0] if cursor.description else "done")
"""


def as_role(role: str, statement: str) -> tuple[int, str]:
    """Run one statement from app1 as a database role, over verified TLS."""
    host = get_host("app1")
    result = host.run(
        "printf '%%s\\n' %s | /opt/linkrift/api/current/venv/bin/python -c %s %s %s %s",
        secret(f"postgresql_{role}_password"),
        SQL,
        f"linkrift_{role}",
        statement,
        f"db.{variables('app1')['linkrift_internal_domain']}",
    )
    return result.rc, result.stdout + result.stderr


def test_connections_are_encrypted() -> None:
    assert as_role("api", "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == (0, "TLSv1.3\n")


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("redirect", "SET TRANSACTION READ WRITE; DELETE FROM links"),
        ("redirect", "SELECT count(*) FROM users"),
        ("worker", "DELETE FROM users"),
        ("api", "DROP TABLE links"),
        ("api", "CREATE TABLE mine (id int)"),
    ],
)
def test_database_roles_have_the_least_privilege(role: str, statement: str) -> None:
    code, output = as_role(role, statement)
    assert code != 0, output
    assert "InsufficientPrivilege" in output


def test_redirect_reads_links() -> None:
    code, output = as_role("redirect", "SELECT count(*) >= 0 FROM links")
    assert (code, output) == (0, "True\n")


def test_redis_keeps_the_click_stream() -> None:
    host = get_host("data1")
    password = secret("redis_password")
    ask = "REDISCLI_AUTH=%s redis-cli --no-auth-warning -h %s config get %s"
    address = variables("data1")["linkrift_address"]
    assert "volatile-lru" in host.check_output(ask, password, address, "maxmemory-policy")
    assert "yes" in host.check_output(ask, password, address, "appendonly")


def test_redis_refuses_those_without_a_password() -> None:
    address = variables("data1")["linkrift_address"]
    assert "NOAUTH" in get_host("data1").run("redis-cli -h %s ping", address).stdout

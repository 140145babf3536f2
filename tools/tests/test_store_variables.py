"""What installations say of their stores becomes what services and stores get: rendered as Ansible does."""

from __future__ import annotations

import base64
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tools.testing.templating import ROLES, ROOT, load, render, render_file, role_variables

SITE = ROOT / "playbooks/group_vars/all.yml"
SECRETS = {
    f"{store}_{user}_password": f"password-of-{store}-{user}"
    for store in ("postgresql", "redis", "clickhouse")
    for user in ("owner", "api", "redirect", "worker", "admin")
} | {"jwt_secret": "x" * 32}
REDIS_7 = {"stdout": "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0"}


def site(**more: Any) -> dict[str, Any]:
    """Return the variables of an installation without hosts, with others on top."""
    hosts = {"groups": {}, "hostvars": {}, "group_names": [], "inventory_hostname": "h"}
    return {**load(SITE), **hosts, "linkrift_domain": "example.com", "linkrift_secrets": SECRETS, **more}


def environment(service: str, **more: Any) -> dict[str, Any]:
    """Return what a service gets."""
    variables = site(service_name=service, **more)
    return {**render("{{ service_environment }}", variables), **render("{{ service_secrets }}", variables)}


def test_our_own_stores() -> None:
    api = environment("api")
    assert api["LINKRIFT_REDIS_URL"] == "redis://linkrift_api@redis.linkrift.internal:6379/0"
    assert api["LINKRIFT_REDIS_PASSWORD"] == "password-of-redis-api"
    assert api["LINKRIFT_REDIS_CA_FILE"] == ""
    assert (api["LINKRIFT_CLICKHOUSE_PORT"], api["LINKRIFT_CLICKHOUSE_SECURE"]) == (9000, False)
    assert api["LINKRIFT_CLICKHOUSE_USER"] == "linkrift_api"
    assert api["LINKRIFT_AUDIT_LOG"] == "/var/log/linkrift/audit.log"
    assert api["LINKRIFT_OWN_HOSTS"] == "go.example.com,api.example.com"
    redirect = environment("redirect")
    assert "LINKRIFT_AUDIT_LOG" not in redirect
    assert redirect["LINKRIFT_PUBLIC_HOSTS"] == "go.example.com"
    # A key that an installation does not have yet is made up by each slot.
    assert (redirect["LINKRIFT_REDIRECT_PASS_KEY"], redirect["LINKRIFT_REDIRECT_PASS_PREVIOUS_KEY"]) == ("", "")


def test_names_that_visitors_use() -> None:
    hosts = [{"name": "go.example.com", "service": "redirect"}, {"name": "s.example.net", "service": "redirect"}]
    assert environment("redirect", haproxy_hosts=hosts)["LINKRIFT_PUBLIC_HOSTS"] == "go.example.com,s.example.net"
    # Not example.com: what no balancer serves is somebody's web site, to which a link may lead.
    assert environment("api", haproxy_hosts=hosts)["LINKRIFT_OWN_HOSTS"] == "go.example.com,s.example.net"
    assert environment("worker")["LINKRIFT_CLICKHOUSE_USER"] == "linkrift_worker"


def test_tls() -> None:
    worker = environment("worker", linkrift_tls={"redis": True, "clickhouse": True})
    assert worker["LINKRIFT_REDIS_URL"] == "rediss://linkrift_worker@redis.linkrift.internal:6379/0"
    assert worker["LINKRIFT_REDIS_CA_FILE"] == worker["LINKRIFT_CLICKHOUSE_CA_FILE"] == "/etc/linkrift/tls/ca.pem"
    assert (worker["LINKRIFT_CLICKHOUSE_PORT"], worker["LINKRIFT_CLICKHOUSE_SECURE"]) == (9440, True)


def test_external_stores() -> None:
    external = {
        "postgresql": {"host": "pg.example.net", "port": 6432, "database": "links", "ca_path": "/etc/ssl/pg.pem"},
        "redis": {"addresses": ["192.0.2.7"], "tls": True, "users": {"api": "svc api"}},
        "clickhouse": {"host": "ch.example.net", "port": 9440, "tls": True},
    }
    api = environment("api", linkrift_external=external)
    assert (api["LINKRIFT_DB_HOST"], api["LINKRIFT_DB_PORT"], api["LINKRIFT_DB_NAME"]) == (
        "pg.example.net",
        6432,
        "links",
    )
    assert (api["LINKRIFT_DB_SSL_MODE"], api["LINKRIFT_DB_SSL_ROOT_CERT"]) == ("verify-full", "/etc/ssl/pg.pem")
    assert api["LINKRIFT_REDIS_URL"] == "rediss://svc%20api@redis.linkrift.internal:6379/0"
    assert (api["LINKRIFT_CLICKHOUSE_HOST"], api["LINKRIFT_CLICKHOUSE_PORT"]) == ("ch.example.net", 9440)
    variables = site(service_name="api", linkrift_external=external)
    assert render("{{ service_schema_host }}:{{ service_schema_port }}/{{ service_schema_database }}", variables) == (
        "pg.example.net:6432/links"
    )
    schemas = "{{ [rollout_schema.ssl_mode, rollout_schema.ca_path, service_schema_ssl_mode, service_schema_ca_path] }}"
    assert render(schemas, variables) == ["verify-full", "/etc/ssl/pg.pem"] * 2
    external["postgresql"]["ssl_mode"] = "verify-ca"
    assert render("{{ [rollout_schema.ssl_mode, service_schema_ssl_mode] }}", variables) == ["verify-ca"] * 2
    assert render("{{ base_internal_addresses }}", variables) == {"db": [], "redis": ["192.0.2.7"], "clickhouse": []}


PG_TASKS = {
    "rollout/tasks/schema.yml": "pg_migrate",
    "service/tasks/migrate.yml": "pg_migrate",
    "release_preflight/tasks/main.yml": "pg_info",
}


@pytest.mark.parametrize("ca_path", ["/etc/ssl/pg.pem", ""])
@pytest.mark.parametrize(("path", "module"), PG_TASKS.items())
def test_whoever_asks_postgresql_trusts_its_authority(path: str, module: str, ca_path: str) -> None:
    tasks = yaml.safe_load((ROLES / path).read_text(encoding="utf-8"))
    asked = next(task for task in tasks if f"linkrift.platform.{module}" in task)[f"linkrift.platform.{module}"]
    external = {"postgresql": {"ca_path": ca_path, "ssl_mode": "verify-ca"}} if ca_path else {}
    variables = {**role_variables(path.split("/")[0]), **site(service_name="api", linkrift_external=external)}
    variables["release_preflight_schema"] = variables["rollout_schema"]
    connection = render(f"{asked['sslmode']} {asked['sslrootcert']}", variables)
    if path.startswith("rollout"):
        # What looks before it asks.
        assert render("{{ __rollout_schema.sslmode }} {{ __rollout_schema.sslrootcert }}", variables) == connection
    assert connection == ("verify-ca /etc/ssl/pg.pem" if ca_path else "verify-full /etc/linkrift/tls/ca.pem")


def rollout(host: str, services: list[str], play: list[str], **more: Any) -> dict[str, Any]:
    """Return role rollout's variables on a host, where each service has hosts of its own."""
    groups = {"api_hosts": ["a1", "a2"], "redirect_hosts": ["r1"], "worker_hosts": ["w1", "w2"]}
    found = {
        "inventory_hostname": host,
        "groups": groups,
        "group_names": [name for name, hosts in groups.items() if host in hosts],
        "ansible_play_hosts_all": play,
        "rollout_services": services,
        "rollout_targets": dict.fromkeys(services, "2.0.0+aaaaaaaaaaaa"),
    }
    return role_variables("rollout", **found, **more)


@pytest.mark.parametrize(
    ("services", "play", "owner", "worker"),
    [
        (["redirect"], ["a1", "a2", "r1", "w1", "w2"], "a1", ""),
        (["redirect", "worker"], ["a2", "r1", "w2"], "a2", "w2"),
        (["api", "redirect", "worker"], ["a1", "a2", "r1", "w1", "w2"], "a1", "w1"),
        (["redirect"], ["r1", "w1"], "", ""),
    ],
)
def test_who_brings_the_schemas_about(services: list[str], play: list[str], owner: str, worker: str) -> None:
    who = "{{ [__rollout_owner_host, __rollout_clickhouse_host] }}"
    assert render(who, rollout("r1", services, play)) == [owner, worker]


@pytest.mark.parametrize(
    ("host", "more", "releases"),
    [
        ("a1", {}, ["2.0.0+aaaaaaaaaaaa"]),
        ("a2", {}, []),
        ("r1", {}, []),
        ("a1", {"rollout_purpose": "rollback"}, []),
        ("a1", {"rollout_migrate": False}, []),
    ],
)
def test_who_needs_a_release_only_for_its_migrations(host: str, more: dict[str, Any], releases: list[str]) -> None:
    play = ["a1", "a2", "r1", "w1", "w2"]
    assert render("{{ __rollout_schema_releases }}", rollout(host, ["redirect"], play, **more)) == releases


def test_the_release_that_moves_brings_clickhouses_schema_about() -> None:
    tasks = yaml.safe_load((ROLES / "service/tasks/clickhouse.yml").read_text(encoding="utf-8"))
    program = tasks[0]["ansible.builtin.command"]["argv"][-2]
    variables = role_variables("service", **site(service_name="worker", service_schema_release="2.0.0+aaaaaaaaaaaa"))
    assert render(program, variables) == "/opt/linkrift/releases/2.0.0+aaaaaaaaaaaa/venv/bin/linkrift-worker"


def redis(**more: Any) -> dict[str, Any]:
    """Return role redis's variables on a host."""
    facts = {"memtotal_mb": 4096}
    return role_variables(
        "redis",
        __redis_program=REDIS_7,
        ansible_facts=facts,
        group_names=["redis_hosts"],
        linkrift_secrets=SECRETS,
        **more,
    )


def test_redis_users_and_the_passwords_that_retire() -> None:
    variables = redis(redis_retiring_passwords={"api": ["an-older-password"]})
    users = dict(line.split(" ", 2)[1:] for line in render_file("redis", "users.acl.j2", variables).splitlines())
    # Off, and without a password.
    assert users["default"] == "off ~* &* +@all"
    assert users["linkrift_api"].count("#") == 2
    assert users["linkrift_redirect"].count("#") == 1
    assert "password" not in str(users)
    legacy = render_file("redis", "users.acl.j2", redis(redis_legacy_password="the-one-of-before")).splitlines()[0]
    assert legacy.startswith("user default on #")
    assert "+flushall" not in legacy
    assert "+@all" not in legacy


@pytest.mark.parametrize(
    ("version", "channels", "selectors", "setinfo"),
    [
        ("6.0.16", False, False, False),
        ("6.2.1", True, False, False),
        ("7.0.15", True, True, False),
        ("8.0.2", True, True, True),
    ],
)
def test_redis_rights_are_said_as_each_version_understands_them(
    version: str, channels: bool, selectors: bool, setinfo: bool
) -> None:
    variables = redis() | {"__redis_program": {"stdout": f"Redis server v={version} sha=0"}}
    text = render_file("redis", "users.acl.j2", variables)
    assert (" &" in text, "(%W~" in text, "+client|setinfo" in text) == (channels, selectors, setinfo)


def test_redis_by_tls_has_no_plain_port() -> None:
    lines = render_file("redis", "redis.conf.j2", redis(redis_tls=True, redis_listen_addresses=["::1"])).splitlines()
    assert {"port 0", "tls-port 6379", "tls-auth-clients no"} <= set(lines)
    plain = render_file("redis", "redis.conf.j2", redis(redis_listen_addresses=["::1"])).splitlines()
    assert {"port 6379", "tls-port 0", "maxmemory 1920mb"} <= set(plain)


@pytest.mark.parametrize("repository", [{}, {"uris": ["https://packages.example/deb"]}])
def test_clickhouse_users_for_both_formats(repository: dict[str, Any]) -> None:
    variables = role_variables(
        "clickhouse",
        clickhouse_repository=repository,
        clickhouse_memory_mb=4096,
        clickhouse_access=[{"user": "api", "networks": ["192.0.2.0/24"]}],
        linkrift_secrets=SECRETS,
        groups={},
        hostvars={},
    )
    users = ElementTree.fromstring(render_file("clickhouse", "users.xml.j2", variables))
    plain = render_file("clickhouse", "config.xml.j2", variables | {"clickhouse_listen_addresses": []})
    config = ElementTree.fromstring(plain)
    assert users.tag == config.tag == ("clickhouse" if repository else "yandex")
    api, worker, admin = (users.find(f"users/linkrift_{name}") for name in ("api", "worker", "admin"))
    assert api is not None
    assert worker is not None
    assert admin is not None
    assert [network.text for network in api.findall("networks/ip")] == ["127.0.0.1", "::1", "192.0.2.0/24"]
    assert [network.text for network in admin.findall("networks/ip")] == ["127.0.0.1", "::1"]
    assert users.findtext("profiles/linkrift_api/readonly") == "2"
    grants = api.findtext("grants/query")
    assert grants == ("GRANT SELECT ON linkrift_analytics.*" if repository else None)
    assert (api.find("allow_databases") is None) == bool(repository)
    assert (config.find("query_log/ttl") is not None) == bool(repository)
    tls = render_file(
        "clickhouse", "config.xml.j2", variables | {"clickhouse_listen_addresses": [], "clickhouse_tls": True}
    )
    assert '<tcp_port remove="remove"/>' in tls
    assert "<tcp_port_secure>9440<" in tls


def test_postgresqls_settings() -> None:
    variables = role_variables(
        "postgresql",
        postgresql_memory_mb=8192,
        postgresql_listen_addresses=["localhost"],
        postgresql_version=17,
        postgresql_settings={"work_mem": "9MB"},
        __postgresql_max_connections=300,
    )
    text = render_file("postgresql", "linkrift.conf.j2", variables)
    settings = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
    assert settings["shared_buffers"] == "2048MB"
    assert settings["work_mem"] == "'9MB'", "an installation's own come last, and win"
    assert settings["shared_preload_libraries"] == "'pg_stat_statements'"
    assert "auto_explain" not in text
    slow = render_file("postgresql", "linkrift.conf.j2", variables | {"postgresql_auto_explain_ms": 500})
    assert "session_preload_libraries = 'auto_explain'\nauto_explain.log_min_duration = 500ms" in slow


def connections(stock: str, ours: str, *, hosts: int, **more: Any) -> dict[str, Any]:
    """Return PostgreSQL's variables where its files say so, and so many hosts run all three services."""
    files = [
        {"content": base64.b64encode(text.encode()).decode()} if text else {"failed": True} for text in (stock, ours)
    ]
    groups = {
        f"{service}_hosts": [f"app{number}" for number in range(hosts)] for service in ("api", "redirect", "worker")
    }
    variables = role_variables("postgresql", groups=groups, __postgresql_old_files={"results": files}, **more)
    variables["__postgresql_connections"] = int(render_file("postgresql", "connections.j2", variables))
    return variables


STOCK = "#max_connections = 7\nmax_connections = 100\t\t\t# (change requires restart)\n"
OURS = "# Managed by Ansible\nlisten_addresses = 'localhost'\nmax_connections = 500\n"


@pytest.mark.parametrize(
    ("stock", "ours", "hosts", "asked", "given"),
    [
        ("", "", 1, 0, 300),
        (STOCK, "", 3, 0, 500),  # 210 are needed: room for twice that, and what is kept back
        (STOCK.replace("100", "800"), "", 3, 0, 800),  # somebody else's server
        (STOCK, OURS, 1, 0, 500),  # nobody asked for less
        (STOCK, OURS, 7, 0, 500),  # that is refused, and nothing is restarted
        (STOCK, OURS + "max_connections = '600'\n", 7, 0, 600),  # postgresql_settings
        (STOCK, OURS, 7, 900, 900),
        (STOCK, OURS, 1, 120, 120),
    ],
)
def test_postgresql_keeps_its_connections(stock: str, ours: str, hosts: int, asked: int, given: int) -> None:
    variables = connections(stock, ours, hosts=hosts, postgresql_max_connections=asked)
    assert render("{{ __postgresql_max_connections }}", variables) == given


@pytest.mark.parametrize(("hosts", "refused"), [(6, False), (7, True)])
def test_hosts_beyond_the_connections_are_refused(hosts: int, refused: bool) -> None:
    tasks = yaml.safe_load((ROLES / "postgresql/tasks/assert.yml").read_text(encoding="utf-8"))
    found = next(task for task in tasks if task["name"].startswith("Refuse more connections"))["ansible.builtin.assert"]
    variables = connections(STOCK, OURS, hosts=hosts)
    assert render("{{ " + found["that"] + " }}", variables) is not refused
    if refused:
        said = render(found["fail_msg"], variables)
        assert "may open 490 connections" in said
        assert "accepts only 500, 20 of which" in said
        assert "postgresql_max_connections=1000 has room" in said


@pytest.mark.parametrize(
    ("check", "new", "restart"),
    [
        (True, OURS + "work_mem = 9MB\n", ["port"]),
        (True, OURS.replace("500", "600"), ["max_connections", "port"]),
        (False, OURS.replace("500", "600"), ["port"]),  # the server itself says what waits
    ],
)
def test_only_what_needs_a_restart_is_said_to(check: bool, new: str, restart: list[str]) -> None:
    variables = connections(STOCK, OURS, hosts=3, ansible_check_mode=check)
    answer = ["restart port", "start max_connections", "start port", "start shared_buffers"]
    variables["__postgresql_answer"] = {"stdout_lines": answer}
    written = "lookup('ansible.builtin.template', 'linkrift.conf.j2')"
    assert written in variables["__postgresql_would_wait"]
    variables["__postgresql_would_wait"] = variables["__postgresql_would_wait"].replace(written, "__new")
    assert render("{{ __postgresql_waiting }}", variables | {"__new": new}) == restart


def test_a_host_that_leaves_restarts_no_store() -> None:
    tasks = yaml.safe_load((ROLES / "postgresql/tasks/neighbours.yml").read_text(encoding="utf-8"))
    (server,) = (task for task in tasks if task.get("ansible.builtin.import_tasks") == "server.yml")
    assert server["vars"] == {"postgresql_restart": False}


def test_what_the_documents_show_is_what_there_is() -> None:
    shown = yaml.safe_load((ROOT / "inventories/production/group_vars/all/platform.yml").read_text(encoding="utf-8"))
    used = set(load(SITE)["site_secrets"]["api"]) | set(shown["linkrift_secrets"])
    for store in ("redis", "clickhouse"):
        assert f"{store}_password" not in used
        assert f"{store}_admin_password" in used

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from linkrift.api.settings import RateLimitSettings
from linkrift.api.settings import read_settings as read_api
from linkrift.environment import ConfigurationError, Environment
from linkrift.redirect.settings import read_settings as read_redirect
from linkrift.settings import DatabaseSettings, read_redis
from linkrift.worker.settings import read_settings as read_worker
from tools.testing.certificates import write_server_certificate

DATABASE = {
    "LINKRIFT_DB_HOST": "db.linkrift.internal",
    "LINKRIFT_DB_USER": "linkrift_api",
    "LINKRIFT_DB_PASSWORD": "made up",
    "LINKRIFT_DB_SSL_MODE": "require",
}
REDIS = {"LINKRIFT_REDIS_URL": "redis://:made%20up@redis.linkrift.internal:6379/0"}
CLICKHOUSE = {"LINKRIFT_CLICKHOUSE_HOST": "clickhouse.linkrift.internal", "LINKRIFT_CLICKHOUSE_PASSWORD": "made up"}
API = {"LINKRIFT_JWT_SECRET": "x" * 32, "LINKRIFT_PUBLIC_URL": "https://go.example.org"}


def test_the_guides_variables_are_understood() -> None:
    api = read_api(
        DATABASE
        | REDIS
        | CLICKHOUSE
        | API
        | {
            "LINKRIFT_ENV": "production",
            "LINKRIFT_API_PORT": "8080",
            "LINKRIFT_API_HOST": "0.0.0.0",
            "LINKRIFT_DB_MAX_CONNECTIONS": "100",
            "LINKRIFT_DB_MAX_IDLE_CONNECTIONS": "25",
            "LINKRIFT_REDIS_POOL_SIZE": "50",
            "LINKRIFT_JWT_EXPIRY": "24h",
            "LINKRIFT_OWN_HOSTS": "api.example.org, Example.org.",
            "LINKRIFT_RATE_LIMIT_REQUESTS": "100",
            "LINKRIFT_RATE_LIMIT_WINDOW": "1m",
            "LINKRIFT_LOG_LEVEL": "info",
            "LINKRIFT_LOG_FORMAT": "json",
        }
    )
    assert (api.process.port, api.process.host, api.database.max_connections) == (8080, "0.0.0.0", 100)
    assert (api.jwt_expiry, api.rate_limits.window, api.redis.password) == (86400.0, 60.0, "made up")
    assert api.own_hosts == {"go.example.org", "api.example.org", "example.org"}
    redirect = read_redirect(
        DATABASE | REDIS | {"LINKRIFT_REDIRECT_READ_TIMEOUT": "1s", "LINKRIFT_REDIRECT_WRITE_TIMEOUT": "1s"}
    )
    assert (redirect.process.port, redirect.read_timeout, redirect.process.admission_file) == (8081, 1.0, None)
    assert (redirect.cache_bytes, redirect.warm_links, redirect.replicas) == (43 << 20, 10_000, ())
    worker = read_worker(
        REDIS
        | CLICKHOUSE
        | {
            "LINKRIFT_WORKER_CONCURRENCY": "10",
            "LINKRIFT_WORKER_BATCH_SIZE": "1000",
            "LINKRIFT_WORKER_FLUSH_INTERVAL": "5s",
            "LINKRIFT_SLOT": "green",
            "LINKRIFT_WORKER_PORT": "8182",
            "LINKRIFT_ADMISSION_FILE": "/var/lib/linkrift/worker/green.admitted",
            "LINKRIFT_LIVE_LINK": "/opt/linkrift/worker/live",
        }
    )
    assert (worker.process.port, worker.process.slot, worker.batch_size) == (8182, "green", 1000)
    assert worker.process.live_link == Path("/opt/linkrift/worker/live")


def test_limits_and_the_keys_of_before() -> None:
    limits = {"REQUESTS": "7", "WRITES": "3", "WINDOW": "10s", "BURST": "4", "LOGINS": "5", "LOGIN_WINDOW": "1h"}
    own = {f"LINKRIFT_RATE_LIMIT_{name}": value for name, value in limits.items()}
    keys = ("k" * 32, "l" * 33)
    settings = read_api(
        DATABASE | REDIS | CLICKHOUSE | API | own | {"LINKRIFT_JWT_PREVIOUS_SECRET": f" {keys[0]}  {keys[1]}"}
    )
    assert settings.rate_limits == RateLimitSettings(7, 3, 10.0, 4, 5, 3600.0)
    assert settings.jwt_previous_secrets == keys
    assert "kkkk" not in repr(settings)
    for name, value in (
        ("JWT_PREVIOUS_SECRET", f"{keys[0]} short"),
        ("RATE_LIMIT_WRITES", "0"),
        ("RATE_LIMIT_BURST", "x"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            read_api(DATABASE | REDIS | CLICKHOUSE | API | {f"LINKRIFT_{name}": value})
        assert [finding.partition(":")[0] for finding in caught.value.findings] == [f"LINKRIFT_{name}"]


def test_no_secret_is_shown() -> None:
    settings = read_api(DATABASE | REDIS | CLICKHOUSE | API)
    assert "made up" not in repr(settings)
    assert "xxxx" not in repr(settings)


def test_everything_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_api({})
    assert [finding.partition(":")[0] for finding in caught.value.findings] == [
        *("LINKRIFT_DB_HOST", "LINKRIFT_DB_USER", "LINKRIFT_DB_PASSWORD", "LINKRIFT_DB_SSL_ROOT_CERT"),
        *("LINKRIFT_REDIS_URL", "LINKRIFT_CLICKHOUSE_HOST", "LINKRIFT_CLICKHOUSE_PASSWORD"),
        *("LINKRIFT_JWT_SECRET", "LINKRIFT_PUBLIC_URL"),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:6379/1",
        "http://host:6379/0",
        "redis:///0",
        "redis://host:port/0",
        "redis://host/0?db=3",
        "redis://[::1/0",
    ],
)
def test_a_redis_url_that_is_refused(url: str) -> None:
    environment = Environment({"LINKRIFT_REDIS_URL": url})
    read_redis(environment, pool_size=1, timeout=1.0)
    with pytest.raises(ConfigurationError) as caught:
        environment.finish()
    (finding,) = caught.value.findings
    assert finding.startswith("LINKRIFT_REDIS_URL: expected ")


def test_the_redis_password_has_a_variable_of_its_own() -> None:
    environment = Environment({"LINKRIFT_REDIS_URL": "rediss://user:old@host", "LINKRIFT_REDIS_PASSWORD": "new"})
    settings = read_redis(environment, pool_size=1, timeout=1.0)
    environment.finish()
    assert (settings.username, settings.password, settings.port, settings.tls) == ("user", "new", 6379, True)


def test_a_root_certificate_that_is_none(tmp_path: Path) -> None:
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("nonsense")
    for path in (nonsense, tmp_path / "none"):
        with pytest.raises(ConfigurationError) as caught:
            read_redirect(
                DATABASE | REDIS | {"LINKRIFT_DB_SSL_MODE": "verify-full", "LINKRIFT_DB_SSL_ROOT_CERT": str(path)}
            )
        (finding,) = caught.value.findings
        assert finding.startswith("LINKRIFT_DB_SSL_ROOT_CERT: expected a file")


@pytest.mark.parametrize(
    ("mode", "verifies", "names"),
    [
        ("verify-full", ssl.CERT_REQUIRED, True),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("require", ssl.CERT_NONE, False),
    ],
)
def test_what_tls_proves(tmp_path: Path, mode: str, verifies: ssl.VerifyMode, names: bool) -> None:
    ca = write_server_certificate(tmp_path, "x")
    context = DatabaseSettings("host", 5432, "name", "user", "", mode, ca).tls()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verifies, names)
    assert DatabaseSettings("host", 5432, "name", "user", "", "disable").tls() is None


@pytest.fixture
def listener(tmp_path: Path) -> dict[str, str]:
    """A certificate for the service's own port."""
    write_server_certificate(tmp_path, "services")
    return {
        "LINKRIFT_TLS_CERTIFICATE": str(tmp_path / "services.pem"),
        "LINKRIFT_TLS_PRIVATE_KEY": str(tmp_path / "services.key"),
    }


def listener_finding(**variables: str) -> str:
    """The one thing that is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        read_redirect(DATABASE | REDIS | variables)
    (finding,) = caught.value.findings
    return finding


def test_the_own_port_speaks_tls_with_a_certificate_only(listener: dict[str, str]) -> None:
    assert read_redirect(DATABASE | REDIS).process.tls is None
    for settings in (
        read_redirect(DATABASE | REDIS | listener),
        read_worker(REDIS | CLICKHOUSE | listener),
        read_api(DATABASE | REDIS | CLICKHOUSE | API | listener),
    ):
        context = settings.process.tls
        assert context is not None
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("missing", ["LINKRIFT_TLS_CERTIFICATE", "LINKRIFT_TLS_PRIVATE_KEY"])
def test_a_certificate_and_its_key_come_together(listener: dict[str, str], missing: str) -> None:
    (other,) = set(listener) - {missing}
    finding = listener_finding(**{other: listener[other]})
    assert finding == f"{missing}: missing; expected the path of a file, since {other} is set"
    finding = listener_finding(**{**listener, missing: "/nowhere/services"})
    assert finding == f"{missing}: expected a file that can be read (No such file or directory)"


def test_a_certificate_that_is_none(listener: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "services.pem").write_text("nonsense")
    finding = listener_finding(**listener)
    assert finding.startswith("LINKRIFT_TLS_CERTIFICATE: expected a file with certificates in PEM form")


def test_a_key_that_does_not_fit(listener: dict[str, str], tmp_path: Path) -> None:
    write_server_certificate(tmp_path, "others")
    key = serialization.load_pem_private_key((tmp_path / "services.key").read_bytes(), password=None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"made up"),
    )
    for content in ((tmp_path / "others.key").read_bytes(), b"nonsense", locked):
        (tmp_path / "services.key").write_bytes(content)
        finding = listener_finding(**listener)
        assert finding.startswith(
            "LINKRIFT_TLS_PRIVATE_KEY: expected the private key of the certificate in LINKRIFT_TLS_"
        )


def test_replicas_are_the_primary_elsewhere_and_quicker_given_up() -> None:
    hosts = "db2, db3:5433,[2001:db8::3]:5434"
    redirect = read_redirect(DATABASE | REDIS | {"LINKRIFT_DB_REPLICA_HOSTS": hosts})
    assert [(each.host, each.port) for each in redirect.replicas] == [
        *(("db2", 5432), ("db3", 5433), ("2001:db8::3", 5434))
    ]
    primary, replica = redirect.database, redirect.replicas[0]
    assert (replica.user, replica.password, replica.ssl_mode) == (primary.user, primary.password, primary.ssl_mode)
    # One that hangs leaves time for the primary.
    assert replica.connect_timeout + replica.command_timeout < redirect.read_timeout


@pytest.mark.parametrize("hosts", ["db2:0x", "db2:99999", "user@db2", "db2/path", "[::1", ":5432"])
def test_a_replica_is_a_host_and_a_port(hosts: str) -> None:
    with pytest.raises(ConfigurationError, match="LINKRIFT_DB_REPLICA_HOSTS: expected hosts separated by commas"):
        read_redirect(DATABASE | REDIS | {"LINKRIFT_DB_REPLICA_HOSTS": hosts})

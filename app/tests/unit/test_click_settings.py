"""Where clicks may wait, what is kept of them, and who counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from linkrift.environment import ConfigurationError
from linkrift.redirect.settings import read_settings as read_redirect
from linkrift.worker.settings import read_settings as read_worker

STORES = {
    "LINKRIFT_REDIS_URL": "redis://127.0.0.1:1/0",
    "LINKRIFT_CLICKHOUSE_HOST": "127.0.0.1",
    "LINKRIFT_CLICKHOUSE_PASSWORD": "none",
}
DATABASE = {
    "LINKRIFT_DB_HOST": "127.0.0.1",
    "LINKRIFT_DB_USER": "nobody",
    "LINKRIFT_DB_PASSWORD": "none",
    "LINKRIFT_DB_SSL_MODE": "disable",
}
REDIRECT = STORES | DATABASE


def test_clicks_wait_where_systemd_or_somebody_else_says() -> None:
    assert read_redirect(REDIRECT).click_spool is None
    unit = REDIRECT | {"STATE_DIRECTORY": "/var/lib/linkrift/redirect-spool"}
    assert read_redirect(unit).click_spool == Path("/var/lib/linkrift/redirect-spool")
    settings = read_redirect(unit | {"LINKRIFT_CLICK_SPOOL": "/spool", "LINKRIFT_CLICK_SPOOL_MIB": "2"})
    assert (settings.click_spool, settings.click_spool_bytes) == (Path("/spool"), 2 * 1024 * 1024)


def test_how_much_of_an_address_is_kept() -> None:
    settings = read_redirect(REDIRECT)
    assert (settings.click_ipv4_prefix, settings.click_ipv6_prefix) == (24, 48)
    settings = read_redirect(REDIRECT | {"LINKRIFT_CLICK_IPV4_PREFIX": "0", "LINKRIFT_CLICK_IPV6_PREFIX": "32"})
    assert (settings.click_ipv4_prefix, settings.click_ipv6_prefix) == (0, 32)
    with pytest.raises(ConfigurationError, match="LINKRIFT_CLICK_IPV4_PREFIX"):
        read_redirect(REDIRECT | {"LINKRIFT_CLICK_IPV4_PREFIX": "33"})


def test_a_worker_whose_environment_is_older_counts_for_nobody() -> None:
    assert read_worker(STORES).database is None
    settings = read_worker(STORES | DATABASE)
    assert settings.database is not None
    assert settings.database.max_connections == 2
    with pytest.raises(ConfigurationError, match="LINKRIFT_DB_PASSWORD"):
        read_worker(STORES | {**DATABASE, "LINKRIFT_DB_PASSWORD": ""})


def test_a_batch_grows_to_no_less_than_its_size() -> None:
    assert read_worker(STORES).batch_limit == 10_000
    assert read_worker(STORES | {"LINKRIFT_WORKER_BATCH_SIZE": "20000"}).batch_limit == 20_000
    with pytest.raises(ConfigurationError, match="LINKRIFT_WORKER_BATCH_LIMIT"):
        read_worker(STORES | {"LINKRIFT_WORKER_BATCH_LIMIT": "10"})

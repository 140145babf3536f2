"""How stores share a host's memory, and what PostgreSQL makes of its share."""

from __future__ import annotations

import pytest

from ansible_collections.linkrift.platform.plugins.filter import postgresql_memory as postgresql_filter
from ansible_collections.linkrift.platform.plugins.filter import store_memory as store_filter
from ansible_collections.linkrift.platform.plugins.module_utils._memory import postgresql_memory, store_memory

APP = ["api_hosts", "redirect_hosts", "worker_hosts"]
ALL_STORES = ["postgresql_hosts", "redis_hosts", "clickhouse_hosts"]


@pytest.mark.parametrize(
    ("host_mb", "shared_buffers", "cache", "maintenance", "work", "wal"),
    [
        (2048, 448, 1344, 112, 2, 896),
        (4096, 960, 2880, 240, 3, 1920),
        (8192, 1984, 5952, 496, 6, 3968),
        (16384, 4032, 12096, 1008, 13, 8064),
    ],
)
def test_postgresql_on_a_host_of_its_own(
    host_mb: int, shared_buffers: int, cache: int, maintenance: int, work: int, wal: int
) -> None:
    share = store_memory(host_mb, ["postgresql_hosts"])["postgresql"]
    assert share == host_mb - 256
    assert postgresql_memory(share, 300) == {
        "shared_buffers": shared_buffers,
        "effective_cache_size": cache,
        "maintenance_work_mem": maintenance,
        "autovacuum_work_mem": maintenance // 2,
        "work_mem": work,
        "max_wal_size": wal,
    }


@pytest.mark.parametrize(("share", "connections"), [(0, 0), (64, 1000), (1 << 20, 1)])
def test_postgresqls_settings_have_bounds(share: int, connections: int) -> None:
    settings = postgresql_memory(share, connections)
    assert 64 <= settings["shared_buffers"] <= 16384
    assert 2 <= settings["work_mem"] <= 64
    assert 32 <= settings["autovacuum_work_mem"] <= settings["maintenance_work_mem"] <= 2048


def test_everything_on_a_host_with_2_gb() -> None:
    # What a host of 2 GB shows of them.
    shares = store_memory(1950, [*APP, *ALL_STORES])
    assert shares == {"postgresql": 485, "redis": 242, "clickhouse": 485, "rest": 736, "needed": 1948}


def test_what_is_given_counts_and_what_is_elsewhere_does_not() -> None:
    shares = store_memory(4096, ["redis_hosts", "postgresql_hosts"], {"redis": 3000, "postgresql": None})
    assert (shares["redis"], shares["postgresql"]) == (3000, 2560)
    assert shares["needed"] == 256 + 3000 + 2560 > 4096
    assert store_memory(4096, ["balancers"])["needed"] == 256


def test_a_role_alone_on_a_host_without_groups_gets_all() -> None:
    assert store_memory(4096, ["ungrouped"])["redis"] == 3840


def test_the_filters() -> None:
    assert store_filter.FilterModule().filters() == {"store_memory": store_memory}
    assert postgresql_filter.FilterModule().filters() == {"postgresql_memory": postgresql_memory}

# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the stores on a host share its memory with each other and with what else runs there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.linkrift.platform.plugins.module_utils._paths import SERVICES

# Of each host's memory (MiB), what the system needs, and what the two slots of a service do, both running.
SYSTEM_MB = 256
SERVICE_MB = 160
STORES = ("postgresql", "redis", "clickhouse")
# ClickHouse's caches and merges need more than the others to be as quick.
WEIGHTS = {"postgresql": 2, "redis": 1, "clickhouse": 2}


def store_memory(
    memory_mb: int, group_names: Iterable[str], given: Mapping[str, int | None] | None = None
) -> dict[str, int]:
    """Divide a host's memory.

    Args:
        memory_mb: the host's memory in MiB.
        group_names: the host's groups, which say what runs on it.
        given: what some stores were given by hand, in MiB; None or nothing: their share.

    Returns:
        MiB for each store of the host (a store that is not there gets the share it would have), for the `rest`
        (system and services), and all of that together as `needed`.
    """
    groups = set(group_names)
    rest = SYSTEM_MB + SERVICE_MB * sum(f"{service}_hosts" in groups for service in SERVICES)
    here = [store for store in STORES if f"{store}_hosts" in groups]
    free = max(0, memory_mb - rest)
    total = sum(WEIGHTS[store] for store in here)
    share = {store: free * WEIGHTS[store] // (total if store in here else total + WEIGHTS[store]) for store in STORES}
    taken = {store: int(value) for store, value in (given or {}).items() if value is not None}
    sizes = {**share, **taken}
    return {**sizes, "rest": rest, "needed": rest + sum(sizes[store] for store in {*here, *taken})}


def postgresql_memory(memory_mb: int, connections: int) -> dict[str, int]:
    """Return PostgreSQL's memory settings in MiB, by name.

    Args:
        memory_mb: PostgreSQL's share of the host, in MiB.
        connections: how many there may be; each may sort several times at once.
    """

    def within(value: int, least: int, most: int) -> int:
        return min(max(value, least), most)

    return {
        "shared_buffers": within(memory_mb // 4, 64, 16384),
        "effective_cache_size": memory_mb * 3 // 4,
        "maintenance_work_mem": within(memory_mb // 16, 32, 2048),
        "autovacuum_work_mem": within(memory_mb // 32, 32, 1024),
        "work_mem": within(memory_mb // 4 // max(connections, 1), 2, 64),
        "max_wal_size": within(memory_mb // 2, 512, 8192),
    }

"""The worker service's settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from linkrift.environment import Environment
from linkrift.settings import (
    ClickHouseSettings,
    DatabaseSettings,
    ProcessSettings,
    RedisSettings,
    read_clickhouse,
    read_database,
    read_process,
    read_redis,
)


@dataclass(frozen=True)
class WorkerSettings:
    """Settings of the worker service. Times are in seconds.

    Attributes:
        concurrency: batches that are inserted at the same time.
        database: where counts of clicks go; None: they go nowhere.
        batch_size: events in a batch, while those that wait fit into one.
        batch_limit: events in a batch, while more wait.
        flush_interval: how long a batch waits to become full.
        reclaim_after: how long a batch may be in another worker's hands before it is taken over.
        count_interval: how often the clicks of links are counted for PostgreSQL.
    """

    process: ProcessSettings
    redis: RedisSettings
    clickhouse: ClickHouseSettings
    database: DatabaseSettings | None = None
    concurrency: int = 10
    batch_size: int = 1000
    batch_limit: int = 10_000
    flush_interval: float = 5.0
    reclaim_after: float = 60.0
    count_interval: float = 10.0


def read_settings(variables: Mapping[str, str] | None = None) -> WorkerSettings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    environment = Environment(os.environ if variables is None else variables)
    batch_size = environment.integer("LINKRIFT_WORKER_BATCH_SIZE", 1000, minimum=1, maximum=100_000)
    # Environments from before counts went back to PostgreSQL do not have it.
    counts = environment.is_set("LINKRIFT_DB_HOST")
    settings = WorkerSettings(
        process=read_process(environment, "worker", 8082),
        redis=read_redis(environment, pool_size=20, timeout=5.0),
        clickhouse=read_clickhouse(environment),
        concurrency=environment.integer("LINKRIFT_WORKER_CONCURRENCY", 10, minimum=1, maximum=100),
        database=read_database(environment, connections=2, idle=0, command_timeout=10.0) if counts else None,
        batch_size=batch_size,
        batch_limit=environment.integer(
            "LINKRIFT_WORKER_BATCH_LIMIT", max(10_000, batch_size), minimum=batch_size, maximum=1_000_000
        ),
        flush_interval=environment.duration("LINKRIFT_WORKER_FLUSH_INTERVAL", 5.0, minimum=0.01, maximum=300.0),
        reclaim_after=environment.duration("LINKRIFT_WORKER_RECLAIM_AFTER", 60.0, minimum=0.1, maximum=3600.0),
        count_interval=environment.duration("LINKRIFT_WORKER_COUNT_INTERVAL", 10.0, minimum=0.05, maximum=3600.0),
    )
    environment.finish()
    return settings

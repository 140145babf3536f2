"""The baseline for making links: their bare rows, at the same rate: `commits.py EMAIL PREFIX RATE COUNT`; prints JSON.

Runs in the release's environment with the API's settings. Each row is a transaction; latency is from the moment it was
due. Needs tools/load.py beside it.
"""

import json
import sys
import threading
import time
from typing import Any

import psycopg2

from linkrift.api.settings import read_settings
from tools.load import Result, Schedule

CONNECTIONS = 8
_INSERT = "INSERT INTO links (user_id, short_code, original_url) SELECT id, %s, %s FROM users WHERE email = %s"


def connect() -> Any:
    """Return a connection, each of whose statements is a transaction."""
    settings = read_settings().database
    connection = psycopg2.connect(
        host=settings.host,
        port=settings.port,
        dbname=settings.name,
        user=settings.user,
        password=settings.password,
        sslmode=settings.ssl_mode,
        sslrootcert=str(settings.ssl_root_certificate or "system"),
    )
    connection.autocommit = True
    return connection


def insert_share(connection: Any, email: str, prefix: str, schedule: Schedule, result: Result) -> None:
    """Insert one connection's share of the rows."""
    while (item := schedule.next()) is not None:
        number, due = item
        if due is not None and (wait := due - time.monotonic()) > 0:
            time.sleep(wait)  # an even pace
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, (f"{prefix}{number:06d}", f"https://www.example.org/created/{number}", email))
        result.statuses[201] += 1
        result.latencies.append(time.monotonic() - (due or schedule.start))


def main() -> None:
    """Insert them."""
    email, prefix, rate, count = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    connections = [connect() for _ in range(CONNECTIONS)]
    schedule = Schedule(rate, count, time.monotonic() + 600, None)
    results = [Result() for _ in connections]
    threads = [
        threading.Thread(target=insert_share, args=(connection, email, prefix, schedule, result))
        for connection, result in zip(connections, results, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = Result()
    for result in results:
        total.add(result)
    print(json.dumps(total.report(time.monotonic() - schedule.start)))


if __name__ == "__main__":
    main()

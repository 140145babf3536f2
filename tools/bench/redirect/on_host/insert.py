"""The baseline for the worker: plain inserts with the driver, of rows that are there already: `insert.py ROWS`.

Runs in the release's environment with the worker's settings. Prints the seconds that the inserts took, as JSON.
"""

import json
import sys
import time

from linkrift.clickhouse import make_client
from linkrift.worker.settings import read_settings

BLOCK = 10_000
TABLE = "bench_clicks"


def main() -> None:
    """Insert them into a table of the same shape, which goes afterwards."""
    rows = int(sys.argv[1])
    settings = read_settings().clickhouse
    client = make_client(settings, settings.database)
    block = client.execute(f"SELECT * FROM clicks LIMIT {min(rows, BLOCK)}")  # noqa: S608 # a number
    client.execute(f"DROP TABLE IF EXISTS {TABLE}")
    client.execute(f"CREATE TABLE {TABLE} AS clicks")
    began = time.monotonic()
    inserted = 0
    while inserted < rows:
        inserted += client.execute(f"INSERT INTO {TABLE} VALUES", block[: rows - inserted])
    seconds = time.monotonic() - began
    client.execute(f"DROP TABLE {TABLE}")
    print(json.dumps({"rows": inserted, "seconds": seconds}))


if __name__ == "__main__":
    main()

"""The baseline for the worker: plain inserts with the driver, of rows that are there already: `insert.py ROWS`.

Runs in the release's environment with the worker's settings. Prints the seconds that the inserts took, as JSON.
"""

import json
import sys
import time

from linkrift.clickhouse import make_client
from linkrift.worker.settings import read_settings

BLOCK = 10_000


def main() -> None:
    """Insert them into a table of the same shape, which goes afterwards."""
    rows = int(sys.argv[1])
    settings = read_settings().clickhouse
    client = make_client(settings, settings.database)
    block = client.execute("SELECT * FROM clicks LIMIT %(rows)s", {"rows": min(rows, BLOCK)})
    client.execute("DROP TABLE IF EXISTS bench_clicks")
    client.execute("CREATE TABLE bench_clicks AS clicks")
    began = time.monotonic()
    inserted = 0
    while inserted < rows:
        inserted += client.execute("INSERT INTO bench_clicks VALUES", block[: rows - inserted])
    seconds = time.monotonic() - began
    client.execute("DROP TABLE bench_clicks")
    print(json.dumps({"rows": inserted, "seconds": seconds}))


if __name__ == "__main__":
    main()

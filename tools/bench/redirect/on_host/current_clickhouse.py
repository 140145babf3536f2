"""The same query on a current ClickHouse: `current_clickhouse.py DIRECTORY TIMES`; prints JSON.

Runs on the control node, in an environment that has chdb: ClickHouse as a library. Reads a JSON object from standard
input: `prepare`, a list of statements, and `query`. Prints the engine's version, the row that the query finds, and the
milliseconds that it took each time.
"""

import json
import sys
import time

from chdb.session import Session


def main() -> None:
    """Make the table in the directory and ask."""
    directory, times = sys.argv[1], int(sys.argv[2])
    asked = json.load(sys.stdin)
    session = Session(directory)
    for statement in asked["prepare"]:
        session.query(statement)
    milliseconds = []
    row: object = None
    for _ in range(times):
        began = time.monotonic()
        answer = str(session.query(asked["query"], "JSONCompactEachRow"))
        milliseconds.append((time.monotonic() - began) * 1000)
        row = json.loads(answer)
    version = str(session.query("SELECT version()", "TSVRaw")).strip()
    print(json.dumps({"version": version, "row": row, "milliseconds": milliseconds}))


if __name__ == "__main__":
    main()

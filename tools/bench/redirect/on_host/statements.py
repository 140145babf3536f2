"""Prints as JSON what the release that runs this asks ClickHouse for: `totals`, the query, and `schema`, a list."""

import json

from linkrift.api.stats import TOTALS
from linkrift.worker.schema import migrations_directory, schema_files


def main() -> None:
    """Print it."""
    schema = [statement for file in schema_files(migrations_directory()) for statement in file.statements()]
    print(json.dumps({"totals": TOTALS, "schema": schema}))


if __name__ == "__main__":
    main()

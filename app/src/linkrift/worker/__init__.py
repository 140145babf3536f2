"""The worker service: takes click events from the Redis stream into ClickHouse."""

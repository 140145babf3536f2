"""Programs that run on lab hosts, with nothing but Python's standard library there."""

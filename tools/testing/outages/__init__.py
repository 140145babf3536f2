"""One dependency after the other goes away and comes back while visitors follow links, and everything is counted.

    python -m tools.testing.outages --lab NAME [--long] [--only PART ...]

runs it on a lab that serves, in minutes, or with `--long` in the times of `make soak`. What was seen goes into
outages.json in the lab's directory; `judge` says what is wrong with it.
"""

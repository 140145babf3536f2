"""Where several processes share their metrics. Apart from `metrics`, which must be imported after this was called."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def metrics_directory(runtime_directory: Path | None, processes: int) -> Iterator[None]:
    """Set PROMETHEUS_MULTIPROC_DIR to an empty directory while several processes run.

    Args:
        runtime_directory: it is made in there; None: in the directory for temporary files.
        processes: with one process nothing is done.

    Yields:
        Nothing; afterwards the directory is gone.
    """
    if processes == 1:
        yield
        return
    if runtime_directory is not None:
        runtime_directory.mkdir(parents=True, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="linkrift-metrics-", dir=runtime_directory)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    try:
        yield
    finally:
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        shutil.rmtree(directory)

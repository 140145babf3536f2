"""What a lab's images are made from."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from ansible.module_utils.linkrift_lab import remember

# As lab_image does for two images; the caches of a process that has just begun are empty.
PROGRAM = """
import linecache, sys, threading
sys.setswitchinterval(1e-6)
from linkrift_lab.image import remembering
found = []
def one(together):
    together.wait()
    try:
        found.append(remembering())
    except OSError as error:
        found.append(error)
for _ in range(200):
    linecache.clearcache()
    together = threading.Barrier(4)
    threads = [threading.Thread(target=one, args=(together,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
assert len(found) == 800, len(found)
assert len(set(map(str, found))) == 1, set(map(str, found))
print(found[0], end="")
"""


def test_images_are_made_side_by_side_from_an_archive(tmp_path: Path) -> None:
    """As Ansible packs it."""
    directory = Path(inspect.getfile(remember)).parent
    with zipfile.ZipFile(tmp_path / "payload.zip", "w") as archive:
        for path in directory.glob("*.py"):
            archive.write(path, f"linkrift_lab/{path.name}")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "payload.zip")}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == inspect.getsource(remember)

"""The lab's secrets: generated once, kept in `secrets.yml`, carried to roles as `linkrift_secrets`."""

from __future__ import annotations

import secrets
from pathlib import Path

import yaml

from tools.lab import LabToolError
from tools.lab.files import write_private

# Each is that many random bytes, as base64url text, which needs no quoting in URLs, SQL or environment files.
SECRETS = (
    ("postgresql_owner_password", 24),
    ("postgresql_api_password", 24),
    ("postgresql_redirect_password", 24),
    ("postgresql_worker_password", 24),
    ("redis_api_password", 24),
    ("redis_redirect_password", 24),
    ("redis_worker_password", 24),
    ("redis_admin_password", 24),
    ("clickhouse_api_password", 24),
    ("clickhouse_worker_password", 24),
    ("clickhouse_admin_password", 24),
    ("jwt_secret", 48),
    ("redirect_pass_key", 48),
)


def ensure_secrets(directory: Path) -> list[str]:
    """Generate the secrets that a lab does not have yet; those that it has never change.

    Args:
        directory: The lab's directory.

    Returns:
        Names of the new ones.

    Raises:
        LabToolError: The file is there but holds something else.
    """
    path = directory / "secrets.yml"
    known: dict[str, str] = {}
    if path.exists():
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(loaded, dict):
            raise LabToolError(f"{path} holds no secrets: mend it, or remove it together with the lab (make down)")
        known = loaded
    missing = {name: secrets.token_urlsafe(size) for name, size in SECRETS if not known.get(name)}
    if missing:
        known.update(missing)
        head = "---\n# Generated for this lab. Whoever reads it owns the lab's data; nothing else uses these values.\n"
        write_private(path, (head + yaml.safe_dump(known)).encode())
    return list(missing)

"""Somebody who uses the API."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from app.tests.servers.harness import Running

PASSWORD = "correct horse battery"


@dataclass
class Client:
    """Somebody who uses the API."""

    session: aiohttp.ClientSession
    url: str
    running: Running
    headers: dict[str, str] = field(default_factory=dict)

    async def call(
        self, method: str, path: str, body: object = None, *, data: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        all_headers = {**self.headers, **headers}
        async with self.session.request(
            method, f"{self.url}/api/v1{path}", json=body, data=data, headers=all_headers
        ) as response:
            text = await response.text()
            return response.status, (json.loads(text) if text else {}), dict(response.headers)

    async def register(self) -> Client:
        """Register somebody new and return them."""
        email = f"{uuid.uuid4().hex}@example.test"
        status, account, _ = await self.call("POST", "/auth/register", {"email": email, "password": PASSWORD})
        assert status == 201, account
        bearer = {"Authorization": f"Bearer {account['access_token']}"}
        return Client(self.session, self.url, self.running, bearer)

"""The OpenAPI document is true: requests are made up from it, and every answer must be one that it foretells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.tests.servers.clients import Client
from app.tests.servers.harness import MIGRATIONS, running, variables_of
from linkrift.api.handlers import Handlers
from linkrift.environment import Environment
from linkrift.settings import read_clickhouse
from linkrift.worker import schema
from tools.testing.servers import PostgresqlServer

# Good ones, and as many that are wrong in some way, for each operation.
EXAMPLES = 10
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = (
    *("register", "login", "createLink", "listLinks", "getLink", "changeLink", "deleteLink", "linkStats", "openapi"),
)


@dataclass
class Served:
    """An API without limits, and somebody with a link."""

    owner: Client
    document: dict[str, Any]
    code: str


@pytest.fixture
async def served(
    environment: dict[str, str], postgresql: PostgresqlServer, cheap_passwords: None
) -> AsyncIterator[Served]:
    clickhouse = read_clickhouse(Environment(environment))
    await asyncio.to_thread(schema.apply, clickhouse, schema.schema_files(MIGRATIONS / "clickhouse"))
    names = ("REQUESTS", "WRITES", "LOGINS")
    limits = {f"LINKRIFT_RATE_LIMIT_{name}": "1000000" for name in names}
    variables = variables_of("api", environment, postgresql, **limits)
    async with running("api", variables) as api, aiohttp.ClientSession() as session:
        owner = await Client(session, api.url, api).register()
        _, link, _ = await owner.call("POST", "/links", {"url": "https://example.org/"})
        _, document, _ = await owner.call("GET", "/openapi.json")
        yield Served(owner, document, link["code"])


def test_every_operation_is_asked() -> None:
    named: Any = Handlers.__new__(Handlers)
    assert {route.operation for route in named.routes()} | {"openapi"} == set(OPERATIONS)


async def test_what_is_not_provoked_here_is_foretold_all_the_same(served: Served) -> None:
    for path, operations in served.document["paths"].items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert {"429", "500"} <= set(responses), (method, path)
            assert {"Retry-After", "RateLimit", "RateLimit-Policy"} <= set(responses["429"]["headers"]), (method, path)
            assert ("408" in responses) == ("requestBody" in operation), (method, path)
            assert ("503" in responses) == (path != "/api/v1/openapi.json"), (method, path)


@pytest.mark.parametrize("operation_id", OPERATIONS)
async def test_answers_are_as_the_document_says(served: Served, operation_id: str) -> None:
    await asyncio.to_thread(ask, served, operation_id)


def ask(served: Served, operation_id: str) -> None:
    document = schemathesis.openapi.from_dict(served.document)
    found = [result.ok() for result in document.get_all_operations() if isinstance(result, Ok)]
    operation = next(each for each in found if each.definition.raw["operationId"] == operation_id)
    ask_in_one_way(served, operation, GenerationMode.POSITIVE, CHECKS)
    if "requestBody" in operation.definition.raw:
        ask_in_one_way(served, operation, GenerationMode.NEGATIVE, [*CHECKS, negative_data_rejection])
    elif operation.definition.raw.get("parameters"):
        # A parameter that is not known is overlooked, not refused: this is no wrong request.
        ask_in_one_way(served, operation, GenerationMode.NEGATIVE, CHECKS)


def ask_in_one_way(served: Served, operation: Any, mode: GenerationMode, checks: list[Any]) -> None:
    # A link that is there is asked for, but not deleted.
    known = mode is GenerationMode.POSITIVE and operation.method != "delete"

    @seed(20261122)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Any) -> None:
        if case.path_parameters and known:
            case.path_parameters["code"] = served.code
        case.call_and_validate(base_url=served.owner.url, headers=served.owner.headers, checks=checks)

    one()

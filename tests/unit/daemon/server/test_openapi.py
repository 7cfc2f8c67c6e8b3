"""The document says what the server does: every request made from it is answered as it promises."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import schemathesis
from daemon_support import TOKEN, running
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

if TYPE_CHECKING:
    from collections.abc import Generator

_STOPS = "/v1/daemon/stop"
"""Left out of what is tried at random: after it there is nobody to ask."""

_EXPECTED_5XX = {503, 504}
"""A wait that is over, and a daemon that cannot do it now: both documented, neither unexpected."""


@contextmanager
def _served(home: Path) -> Generator[str]:
    """The address of a daemon that serves in a thread of its own."""
    told: dict[str, Any] = {}
    up = threading.Event()

    async def serve() -> None:
        stop = told["stop"] = anyio.Event()
        told["loop"] = asyncio.get_running_loop()
        async with running(home, listen="127.0.0.1:0") as daemon:
            told["address"] = daemon.server.address
            up.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert up.wait(20)
        yield f"http://{told['address']}"
    finally:
        told["loop"].call_soon_threadsafe(told["stop"].set)
        thread.join(30)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with _served(tmp_path_factory.mktemp("home")) as served:
        yield served


@pytest.fixture(scope="module")
def api(address: str) -> Any:
    document: Any = schemathesis.openapi.from_url(
        f"{address}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    return document.exclude(path=_STOPS)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_made_from_the_document_meets_a_500(case: Any, address: str) -> None:
    answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20)

    if answer.status_code not in _EXPECTED_5XX:
        case.validate_response(answer, checks=[not_a_server_error])
    case.validate_response(
        answer, checks=[status_code_conformance, content_type_conformance, response_schema_conformance]
    )


@pytest.mark.anyio
async def test_every_operation_documents_every_error_as_a_problem_document(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        document = (await client.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 30
    for operation in operations:
        errors = {status: told for status, told in operation["responses"].items() if status >= "400"}
        assert {"401", "403", "404", "409", "413", "422", "429", "500", "502", "503", "504"} <= set(errors)
        assert all(list(told["content"]) == ["application/problem+json"] for told in errors.values())
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_there_is_no_page_to_click_on(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        assert (await client.get(path)).status_code == 404

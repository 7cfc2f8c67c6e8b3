"""The document says what the server does: every request made from it is answered as it promises."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import requests
import schemathesis
from daemon_support import TOKEN, running
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis import checks as common
from schemathesis.specs.openapi import checks as documented

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_STOPS = "/v1/daemon/stop"
"""Left out of what is tried at random: after it there is nobody to ask."""

_ANY = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

_EXPECTED_5XX = {503, 504}
"""A wait that is over, and a daemon that cannot do it now: both documented, neither unexpected."""


_CHECKS: Any = common
_NO_SERVER_ERROR = _CHECKS.not_a_server_error
_DOCUMENTED: list[Any] = [
    documented.status_code_conformance,  # pyright: ignore[reportUnknownMemberType]
    documented.content_type_conformance,  # pyright: ignore[reportUnknownMemberType]
    documented.response_schema_conformance,  # pyright: ignore[reportUnknownMemberType]
]


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


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_made_from_the_document_meets_a_500(address: str, mode: GenerationMode) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    document: Any = schemathesis.openapi.from_url(f"{address}/openapi.json", headers=headers)
    tried: list[str] = []
    statuses: set[int] = set()
    with requests.Session() as session:
        session.headers.update(headers)
        session.trust_env = False
        for operation in document.exclude(path=_STOPS).get_all_operations():
            _try(operation.ok(), session, mode, statuses)
            tried.append(operation.ok().label)
    assert len(tried) > 30
    assert 500 not in statuses
    # What is right is served, and what is wrong is refused: the requests were not all turned away at the door.
    assert (200 if mode is GenerationMode.POSITIVE else 422) in statuses


def _try(operation: Any, session: requests.Session, mode: GenerationMode, statuses: set[int]) -> None:
    """Make requests of one operation, and hold the answers against the document."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=_ANY)
    def answers_as_documented(case: Any) -> None:
        answer = case.call(session=session, timeout=20)
        statuses.add(answer.status_code)
        unexpected = answer.status_code not in _EXPECTED_5XX
        case.validate_response(answer, checks=[*_DOCUMENTED, *([_NO_SERVER_ERROR] if unexpected else [])])

    # Where nothing wrong can be made of an operation without parameters, there is nothing to try.
    with suppress(Unsatisfiable):
        answers_as_documented()


@pytest.mark.anyio
async def test_every_operation_documents_every_error_as_a_problem_document(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        document = (await client.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) > 30
    for operation in operations:
        errors = {status: told for status, told in operation["responses"].items() if status >= "400"}
        assert {"401", "403", "404", "409", "413", "422", "429", "431", "500", "502", "503", "504"} <= set(errors)
        assert all(list(told["content"]) == ["application/problem+json"] for told in errors.values())
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_there_is_no_page_to_click_on(tmp_path: Path, path: str) -> None:
    async with running(tmp_path) as daemon, daemon.client() as client:
        assert (await client.get(path)).status_code == 404

"""The application: routes, errors, the handshake. Without doors; those stand before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.routing import Route, WebSocketRoute

from claude_comms.daemon.server import _routes_asking, _routes_background, _routes_daemon, _routes_kept
from claude_comms.daemon.server._answers import (
    Refusal,
    internal_error,
    on_http_error,
    on_our_error,
    on_refusal,
    on_wrong_request,
    problem_response,
)
from claude_comms.daemon.server._openapi import document
from claude_comms.daemon.server._socket import Session
from claude_comms.daemon.wire import SETTINGS_HEADER, VERSION_HEADER, check_client
from claude_comms.errors import ClaudeCommsError, DaemonError, DaemonVersionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from starlette.websockets import WebSocket

    from claude_comms.daemon.server._service import Service

__all__ = ["application"]

_ABOUT = "Modules ask each other questions; a background Claude that knows the module answers."


def application(service: Service, extra_apps: Mapping[str, ASGIApp]) -> FastAPI:
    """The routes over `service`; `extra_apps` are served under their paths."""
    app = FastAPI(
        title="claude-comms",
        version=service.version,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            ClaudeCommsError: on_our_error,
            Refusal: on_refusal,
            HTTPException: on_http_error,
            RequestValidationError: on_wrong_request,
        },
    )
    app.state.service = service
    app.openapi = lambda: document(app)
    for routes in (_routes_daemon, _routes_kept, _routes_asking, _routes_background):
        app.include_router(routes.router)
    app.router.routes.append(WebSocketRoute("/v1/ws", _talk))
    for path, extra in extra_apps.items():
        app.router.routes.append(Route(path, _AsItIs(extra), include_in_schema=False))
        app.mount(path, extra)
    app.add_middleware(_Handshake, service=service)
    app.add_middleware(_LastResort)
    return app


async def _talk(socket: WebSocket) -> None:
    await Session(socket.app.state.service, socket).run()


class _AsItIs:
    """An application as it is: a bare function would be taken for one that answers requests."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Handshake:
    """Refuses clients of another version, or with other settings, save where they ask about the daemon itself."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._difference(scope)
        if error is None:
            await self._app(scope, receive, send)
        else:
            await problem_response(error, 409)(scope, receive, send)

    def _difference(self, scope: Scope) -> ClaudeCommsError | None:
        path: str = scope["path"]
        if not path.startswith("/v1/") or path.startswith("/v1/daemon/") or path == "/v1/daemon":
            return None
        headers, ours = Headers(scope=scope), self._service
        version, settings = headers.get(VERSION_HEADER), headers.get(SETTINGS_HEADER)
        if version in (None, ours.version) and settings in (None, ours.digest):
            return None
        try:
            check_client(version, settings, our_version=ours.version, our_settings=ours.digest)
        except (DaemonError, DaemonVersionError) as error:
            return error
        return None


class _LastResort:
    """Answers for what nobody expected: 500, with a number to find it in the log by, and nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = False

        async def noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:  # noqa: BLE001 - the last resort
            facts = internal_error(error)
            if began:
                raise ConnectionAbortedError(facts["log_id"]) from None
            await problem_response(facts, 500)(scope, receive, send)

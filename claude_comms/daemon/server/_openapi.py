"""``/openapi.json``: what FastAPI derives from the routes, with our problem documents in the place of its errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.openapi.utils import get_openapi

from claude_comms.daemon.wire import PROBLEM_TYPE, ProblemModel

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["document"]

_STATUSES = (400, 401, 402, 403, 404, 409, 413, 422, 429, 431, 500, 502, 503, 504)
"""What any route may answer beside its result: ours for what an engine raises, and the doors'."""

_METHODS = frozenset({"get", "post", "put", "delete", "patch"})
_OTHERS = ("HTTPValidationError", "ValidationError")


def document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if not app.openapi_schema:
        app.openapi_schema = _made(app)
    return app.openapi_schema


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas: dict[str, Any] = made.setdefault("components", {}).setdefault("schemas", {})
    for name in _OTHERS:
        schemas.pop(name, None)
    schemas["Problem"] = ProblemModel.model_json_schema()
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}, {}]
    for path in made["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                operation["responses"] |= {str(status): _problem(status) for status in _STATUSES}
    return made


def _problem(status: int) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (429, 503):
        told["headers"] = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}}
    return told

"""The loopback API's routes: what each request gets."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Protocol

from claude_comms.testing._answers import Answer
from claude_comms.testing._prompt_cache import as_object
from claude_comms.testing._requests import RecordedRequest, RequestLog
from claude_comms.testing._validation import refusal_of
from claude_comms.testing._wire import Exchange, Send, Step, error_response, head, healthy, json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from claude_comms.testing._faults import Fault
    from claude_comms.testing._prompt_cache import PromptCache
    from claude_comms.testing._server import HttpRequest

__all__ = ["Routes"]

_MESSAGES = "/v1/messages"
_COUNT = "/v1/messages/count_tokens"
_MODELS = "/v1/models"
_LARGEST_BYTES = 32 * 1024 * 1024
_MODEL_NAMES = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
_MASKED = ("x-api-key", "authorization")


class _NextAnswer(Protocol):
    def __call__(self, request: RecordedRequest, *, keep: bool) -> Answer: ...


class Routes:
    """Turns a request into the steps of its response."""

    def __init__(
        self,
        log: RequestLog,
        cache: PromptCache,
        key_matches: Callable[[str], tuple[bool, bool]],
        next_fault: Callable[[str], Fault | None],
        next_answer: _NextAnswer,
    ) -> None:
        self._log = log
        self._cache = cache
        self._key_matches = key_matches
        self._next_fault = next_fault
        self._next_answer = next_answer
        self._numbers = itertools.count(1)

    def respond(self, http: HttpRequest) -> Iterable[Step]:
        """Log the request and answer it."""
        request_id = f"req_loopback_{next(self._numbers):06d}"
        right, admitted = self._key_matches(_key_of(http.headers))
        headers = {name: "***" if name in _MASKED else value for name, value in http.headers.items()}
        request = RecordedRequest(http.method, http.path, headers, _parsed(http.body), right)
        # A fault is taken before the log wakes who waits, so that a test may set the next one at once.
        path = http.path.partition("?")[0]
        fault = self._next_fault(path) if http.method == "POST" else None
        self._log.add(request)
        try:
            return self._route(request, path, fault, request_id, admitted=admitted, size=len(http.body))
        except Exception as error:  # noqa: BLE001 - a script is the test author's code; its failure must be seen there
            return error_response(500, f"the script failed: {type(error).__name__}: {error}", request_id)

    def _route(
        self, request: RecordedRequest, path: str, fault: Fault | None, request_id: str, *, admitted: bool, size: int
    ) -> Iterable[Step]:
        if request.method == "HEAD":
            return [Send(head(200 if path == "/" else 404, {}, length=0))]
        if not path.startswith("/v1/"):
            return error_response(404, "Not Found", request_id)
        if not admitted:
            return error_response(401, "invalid API key", request_id)
        if size > _LARGEST_BYTES:
            return error_response(413, "Request exceeds the maximum size", request_id)
        match request.method, path:
            case "POST", "/v1/messages":
                return self._message(request, fault, request_id)
            case "POST", "/v1/messages/count_tokens":
                return self._count(request, fault, request_id)
            case "GET", str() if path == _MODELS or path.startswith(_MODELS + "/"):
                return _models(path, request_id)
            case _:
                wrong = path in (_MESSAGES, _COUNT, _MODELS)
                return error_response(405 if wrong else 404, "Method Not Allowed" if wrong else "Not Found", request_id)

    def _message(self, request: RecordedRequest, fault: Fault | None, request_id: str) -> Iterable[Step]:
        refusal = refusal_of(request.body)
        if refusal is not None and fault is None:
            return error_response(400, refusal, request_id)
        answer = self._next_answer(request, keep=fault is not None)
        if fault is None:
            return healthy(Exchange(request.body, answer, self._cache.count(request.body), request_id))
        body = as_object(request.body)
        return fault.steps(Exchange(body, fault.rewrite(answer), self._cache.count(body, remember=False), request_id))

    def _count(self, request: RecordedRequest, fault: Fault | None, request_id: str) -> Iterable[Step]:
        if fault is not None:
            body = as_object(request.body)
            prompt = self._cache.count(body, remember=False)
            return fault.steps(Exchange(body, fault.rewrite(Answer("ok")), prompt, request_id))
        refusal = refusal_of(request.body, counting=True)
        if refusal is not None:
            return error_response(400, refusal, request_id)
        tokens = self._cache.count(request.body, remember=False)
        total = tokens.plain + tokens.written + tokens.read
        return json_response(200, {"input_tokens": total}, {"request-id": request_id})


def _models(path: str, request_id: str) -> Iterable[Step]:
    models = [
        {"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
        for name in _MODEL_NAMES
    ]
    wanted = path.removeprefix(_MODELS).strip("/")
    if not wanted:
        page = {"data": models, "has_more": False, "first_id": _MODEL_NAMES[0], "last_id": _MODEL_NAMES[-1]}
        return json_response(200, page, {"request-id": request_id})
    for model in models:
        if model["id"] == wanted:
            return json_response(200, model, {"request-id": request_id})
    return error_response(404, f"model: {wanted}", request_id)


def _key_of(headers: Mapping[str, str]) -> str:
    """The key, as the API takes it: from ``x-api-key`` (Claude Code), or as a bearer token (the SDK 2.11)."""
    return headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None

"""Answers as bytes: the steps by which a response goes out, healthy or not."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.testing._answers import Answer, Text, Thinking, ToolUse, deltas_of, started_block, whole_block
from claude_comms.testing._prompt_cache import PromptTokens, count_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "CLOSE",
    "LAST_CHUNK",
    "RESET",
    "Close",
    "Exchange",
    "Piece",
    "Reset",
    "Send",
    "Step",
    "Wait",
    "chunk",
    "error_response",
    "event",
    "head",
    "healthy",
    "json_response",
    "sent",
]

_REASONS = {
    200: "OK", 302: "Found", 307: "Temporary Redirect", 308: "Permanent Redirect", 400: "Bad Request",
    401: "Unauthorized", 402: "Payment Required", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 413: "Content Too Large", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
    529: "Overloaded",
}  # fmt: skip
_ERROR_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error", 409: "invalid_request_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
LAST_CHUNK = b"0\r\n\r\n"
_SURROGATE = re.compile("[\ud800-\udfff]")
_LARGEST_TORN_BYTES = 300
_TORN_WAIT_S = 0.0002


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing for so many seconds, or until the client is gone."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in the ordinary way (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Tear the connection down (RST)."""


Step = Send | Wait | Close | Reset
CLOSE, RESET = Close(), Reset()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a response's body. `delta` marks those that carry the answer's content."""

    data: bytes
    delta: bool = False
    pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and how it would be answered if nothing went wrong."""

    body: Mapping[str, Any]
    answer: Answer
    prompt: PromptTokens
    request_id: str

    @property
    def streaming(self) -> bool:
        """Whether the client asked for a stream."""
        return bool(self.body.get("stream"))

    @property
    def head(self) -> bytes:
        """The status line and headers of the healthy response."""
        kind = "text/event-stream; charset=utf-8" if self.streaming else "application/json"
        return head(200, {"content-type": kind, "request-id": self.request_id})

    def pieces(self) -> list[Piece]:
        """The body: one piece for each event, or a JSON document in two halves."""
        if self.streaming:
            return list(_events(self))
        document = json.dumps(_message(self)).encode()
        half = len(document) // 2
        return [Piece(document[:half], delta=True), Piece(document[half:], delta=True)]

    def usage(self) -> dict[str, Any]:
        """The counts of the whole turn; the answer's overrides win."""
        content = self.answer.content
        written = sum(count_text(_text_of(block)) for block in content)
        return {
            "input_tokens": self.prompt.plain,
            "cache_creation_input_tokens": self.prompt.written,
            "cache_read_input_tokens": self.prompt.read,
            "output_tokens": max(1, written),
            **self.answer.usage,
        }


def healthy(exchange: Exchange) -> Iterator[Step]:
    """The response without any fault."""
    yield Wait(exchange.answer.delay_s)
    yield Send(exchange.head)
    torn = exchange.answer.torn
    if exchange.streaming and torn is not None:
        dice = random.Random(torn)  # noqa: S311 - the same tears for the same seed
        yield from _torn(b"".join(piece.data for piece in exchange.pieces()), dice)
    else:
        yield from sent(exchange.pieces())
    yield Send(LAST_CHUNK)


def sent(pieces: Iterable[Piece]) -> Iterator[Step]:
    """Each piece as a chunk, after its pause."""
    for piece in pieces:
        if piece.pause_s:
            yield Wait(piece.pause_s)
        yield Send(chunk(piece.data))


def _torn(data: bytes, dice: random.Random) -> Iterator[Step]:
    """Chunks of random sizes; some go out on their own, so that the receiver sees them apart."""
    start = 0
    while start < len(data):
        size = dice.randint(1, dice.choice((3, 30, _LARGEST_TORN_BYTES)))
        yield Send(chunk(data[start : start + size]))
        if dice.random() < 0.3:
            yield Wait(_TORN_WAIT_S)
        start += size


def head(status: int, headers: Mapping[str, str], *, length: int | None = None) -> bytes:
    """A status line and headers; chunked unless the length is given."""
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", framing]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` in chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(kind: str, **fields: Any) -> bytes:
    """A server-sent event of the Messages API."""
    document = json.dumps({"type": kind, **fields}, ensure_ascii=False)
    document = _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
    return f"event: {kind}\ndata: {document}\n\n".encode()


def json_response(status: int, value: Any, headers: Mapping[str, str]) -> list[Step]:
    """A response with a JSON body."""
    body = json.dumps(value).encode()
    return [Send(head(status, {"content-type": "application/json", **headers}, length=len(body)) + body)]


def error_response(
    status: int, message: str, request_id: str, *, kind: str | None = None, headers: Mapping[str, str] | None = None
) -> list[Step]:
    """An error in the API's shape; `kind` is its type where the status does not say it."""
    error = {"type": kind or _ERROR_TYPES.get(status, "api_error"), "message": message}
    value = {"type": "error", "error": error, "request_id": request_id}
    return json_response(status, value, {"request-id": request_id, **(headers or {})})


def _message(exchange: Exchange) -> dict[str, Any]:
    answer = exchange.answer
    return {
        "id": exchange.request_id.replace("req_", "msg_"),
        "type": "message",
        "role": "assistant",
        "model": exchange.body.get("model"),
        "content": [whole_block(block, index) for index, block in enumerate(answer.content)],
        "stop_reason": answer.ending,
        "stop_sequence": answer.stop_sequence,
        "usage": exchange.usage(),
    }


def _events(exchange: Exchange) -> Iterator[Piece]:
    answer = exchange.answer
    usage = exchange.usage()
    opening: dict[str, Any] = {
        **_message(exchange),
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    yield Piece(event("message_start", message=opening))
    count = 0
    for index, block in enumerate(answer.content):
        yield Piece(event("content_block_start", index=index, content_block=started_block(block, index)))
        if index == 0:
            yield Piece(event("ping"))
        for delta in deltas_of(block):
            data = event("content_block_delta", index=index, delta=delta)
            yield Piece(data, delta=True, pause_s=answer.pause_before(count))
            count += 1
        yield Piece(event("content_block_stop", index=index))
    ending = {"stop_reason": answer.ending, "stop_sequence": answer.stop_sequence}
    yield Piece(event("message_delta", delta=ending, usage=usage))
    yield Piece(event("message_stop"))


def _text_of(block: Text | Thinking | ToolUse) -> str:
    match block:
        case Text():
            return block.text
        case Thinking():
            return block.thinking
        case ToolUse():
            return block.name + json.dumps(dict(block.input))

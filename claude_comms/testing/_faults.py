"""What can go wrong between a client and the Messages API, each on demand.

A fault that strikes within an answer takes `after`: how many deltas are sent before it; 0 is after the headers
and before any content. The answer it spoils stays queued, so the client's next try gets it whole.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from claude_comms.testing._wire import (
    CLOSE,
    LAST_CHUNK,
    RESET,
    Exchange,
    Piece,
    Send,
    Step,
    Wait,
    chunk,
    error_response,
    event,
    head,
    healthy,
    sent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from claude_comms.testing._answers import Answer

__all__ = ["FAULTS", "Fault"]

_LONG_S = 3600.0


def _same(answer: Answer) -> Answer:
    return answer


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with one request. Make one with the functions below: ``Fault.status(529)``."""

    kind: str
    steps: Callable[[Exchange], Iterator[Step]] = healthy
    """How the response goes out."""
    rewrite: Callable[[Answer], Answer] = _same
    """What becomes of the answer first."""

    # --- instead of an answer ---

    @staticmethod
    def status(
        code: int,
        *,
        retry_after: float | str | None = None,
        message: str = "Something went wrong",
        error_type: str | None = None,
    ) -> Fault:
        """An HTTP error in the API's shape. `retry_after` is the header's value: seconds, a date or nonsense."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}

        def steps(exchange: Exchange) -> Iterator[Step]:
            yield from error_response(code, message, exchange.request_id, kind=error_type, headers=headers)

        return Fault(f"status_{code}", steps)

    @staticmethod
    def html(status: int = 200) -> Fault:
        """A web page, as from a proxy or a wrong address."""
        page = b"<!doctype html><title>Welcome</title><p>This is not the page you are looking for.</p>"

        def steps(_: Exchange) -> Iterator[Step]:
            yield Send(head(status, {"content-type": "text/html"}, length=len(page)) + page)

        return Fault("html", steps)

    @staticmethod
    def redirect(location: str, status: int = 307) -> Fault:
        """Sends the client to another address. A client that follows takes its key there."""

        def steps(_: Exchange) -> Iterator[Step]:
            yield Send(head(status, {"location": location}, length=0))

        return Fault("redirect", steps)

    @staticmethod
    def empty_body() -> Fault:
        """Status 200, the right content type, and nothing."""

        def steps(exchange: Exchange) -> Iterator[Step]:
            yield Send(exchange.head + LAST_CHUNK)

        return Fault("empty_body", steps)

    @staticmethod
    def hang_up() -> Fault:
        """The connection is closed without an answer."""
        return Fault("hang_up", lambda _: iter([CLOSE]))

    # --- within an answer ---

    @staticmethod
    def cut(after: int = 1, *, clean: bool = True) -> Fault:
        """The answer ends early: properly, with a last chunk; or not `clean`, the connection just closes."""
        ending: list[Step] = [Send(LAST_CHUNK)] if clean else [CLOSE]
        return Fault("cut" if clean else "cut_unclean", lambda exchange: _until(exchange, after, ending))

    @staticmethod
    def reset(after: int = 1) -> Fault:
        """The connection is reset (RST)."""
        return Fault("reset", lambda exchange: _until(exchange, after, [RESET]))

    @staticmethod
    def bad_json(after: int = 1) -> Fault:
        """An event whose data is not JSON, then the rest of the answer."""
        return _inserted("bad_json", after, b'event: content_block_delta\ndata: {"type": "content_bl!!\n\n')

    @staticmethod
    def torn_event(after: int = 1) -> Fault:
        """An event stops in the middle of its data, and the body ends properly."""
        torn = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "half a "})[:-6]
        return Fault("torn_event", lambda exchange: _until(exchange, after, [Send(chunk(torn)), Send(LAST_CHUNK)]))

    @staticmethod
    def error_event(error_type: str = "overloaded_error", after: int = 1, *, message: str = "Overloaded") -> Fault:
        """An ``error`` event after status 200."""
        data = event("error", error={"type": error_type, "message": message})
        return Fault(error_type, lambda exchange: _until(exchange, after, [Send(chunk(data)), Send(LAST_CHUNK)]))

    @staticmethod
    def stall(after: int | None = 1, *, seconds: float = _LONG_S, ping_every_s: float | None = None) -> Fault:
        """Nothing more comes for `seconds` (None: not even headers), or only pings; then the connection closes."""
        idle: list[Step] = [Wait(seconds), CLOSE]
        if ping_every_s is not None:
            ping: list[Step] = [Wait(ping_every_s), Send(chunk(event("ping")))]
            idle = [*(ping * max(1, int(seconds / ping_every_s))), CLOSE]
        if after is None:
            return Fault("stall_before_headers", lambda _: iter(idle))
        kind = "stall" if ping_every_s is None else "pings_only"
        return Fault(kind, lambda exchange: _until(exchange, after, idle))

    @staticmethod
    def drip(interval_s: float = 0.05) -> Fault:
        """The whole answer, a byte at a time."""

        def steps(exchange: Exchange) -> Iterator[Step]:
            yield Send(exchange.head)
            for piece in exchange.pieces():
                for byte in piece.data:
                    yield Wait(interval_s)
                    yield Send(chunk(bytes([byte])))
            yield Send(LAST_CHUNK)

        return Fault("drip", steps)

    @staticmethod
    def garbage(after: int = 1) -> Fault:
        """Bytes that are no chunk."""
        rubbish: list[Step] = [Send(b"\x00\xffthis is no chunk\r\n\xfe\r\n"), CLOSE]
        return Fault("garbage", lambda exchange: _until(exchange, after, rubbish))

    @staticmethod
    def not_utf8(after: int = 1) -> Fault:
        """An event that is not UTF-8."""
        return _inserted("not_utf8", after, b'event: content_block_delta\ndata: {"type": "\xff\xfe"}\n\n')

    @staticmethod
    def odd_event(value: object = None, after: int = 1) -> Fault:
        """A `content_block_delta` whose data is JSON, but not an event's: `value`."""
        data = f"event: content_block_delta\ndata: {json.dumps([] if value is None else value)}\n\n"
        return _inserted("odd_event", after, data.encode())

    @staticmethod
    def duplicate_start(after: int = 1) -> Fault:
        """A second ``message_start`` within the answer."""

        def steps(exchange: Exchange) -> Iterator[Step]:
            return _with(exchange, after, exchange.pieces()[:1])

        return Fault("duplicate_start", steps)

    # --- with the answer itself ---

    @staticmethod
    def huge(size_bytes: int = 10_000_000) -> Fault:
        """An answer of `size_bytes` letters in large deltas."""
        pieces = tuple("x" * min(100_000, size_bytes - start) for start in range(0, size_bytes, 100_000))
        return Fault("huge", rewrite=lambda answer: replace(answer, text="", blocks=(), pieces=pieces))

    @staticmethod
    def empty_answer() -> Fault:
        """A complete answer without any content."""
        return Fault("empty_answer", rewrite=lambda answer: replace(answer, text="", blocks=(), pieces=()))

    @staticmethod
    def stop(reason: str, *, usage: Mapping[str, int] | None = None) -> Fault:
        """The whole answer, ended with that stop reason."""

        def rewrite(answer: Answer) -> Answer:
            return replace(answer, stop_reason=reason, usage=answer.usage if usage is None else usage)

        return Fault(f"stop_{reason}", rewrite=rewrite)


def _until(exchange: Exchange, after: int, ending: list[Step]) -> Iterator[Step]:
    yield Wait(exchange.answer.delay_s)
    yield Send(exchange.head)
    yield from sent(_split(exchange.pieces(), after)[0])
    yield from ending


def _with(exchange: Exchange, after: int, extra: list[Piece]) -> Iterator[Step]:
    before, rest = _split(exchange.pieces(), after)
    yield Wait(exchange.answer.delay_s)
    yield Send(exchange.head)
    yield from sent([*before, *extra, *rest])
    yield Send(LAST_CHUNK)


def _inserted(kind: str, after: int, data: bytes) -> Fault:
    return Fault(kind, lambda exchange: _with(exchange, after, [Piece(data)]))


def _split(pieces: list[Piece], after: int) -> tuple[list[Piece], list[Piece]]:
    """Where `after` deltas have been sent; with 0, before the first one."""
    seen = 0
    for index, piece in enumerate(pieces):
        if piece.delta:
            if seen == after:
                return pieces[:index], pieces[index:]
            seen += 1
            if seen == after:
                return pieces[: index + 1], pieces[index + 1 :]
    return pieces[:-1], pieces[-1:]


def _catalogue() -> dict[str, Fault]:
    statuses = (400, 401, 402, 403, 404, 408, 409, 413, 429, 500, 502, 503, 504, 529)
    reasons = ("max_tokens", "refusal", "pause_turn", "model_context_window_exceeded", "tool_use", "made_up")
    faults: list[Any] = [
        *(Fault.status(code) for code in statuses),
        *(Fault.stop(reason) for reason in reasons),
        *(Fault.error_event(kind) for kind in ("overloaded_error", "api_error", "rate_limit_error", "made_up_error")),
        Fault.html(),
        Fault.redirect("http://127.0.0.1:9/"),
        Fault.empty_body(),
        Fault.hang_up(),
        Fault.cut(),
        Fault.cut(clean=False),
        Fault.reset(),
        Fault.bad_json(),
        Fault.torn_event(),
        Fault.stall(),
        Fault.stall(after=None),
        Fault.stall(ping_every_s=0.02),
        Fault.drip(),
        Fault.garbage(),
        Fault.not_utf8(),
        Fault.odd_event(),
        Fault.duplicate_start(),
        Fault.huge(),
        Fault.empty_answer(),
    ]
    return {fault.kind: fault for fault in faults}


FAULTS: Mapping[str, Fault] = _catalogue()
"""Every fault that keeps a client from a whole answer in good time, by kind: to parametrize tests over."""

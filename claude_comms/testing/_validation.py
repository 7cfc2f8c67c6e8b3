"""What the Messages API refuses, as far as that is cheap to tell: the sentence of its 400, or None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from claude_comms.testing._prompt_cache import as_object, cache_breakpoints, request_blocks

__all__ = ["refusal_of"]

_MOST_BREAKPOINTS = 4


def refusal_of(body: object, *, counting: bool = False) -> str | None:
    """Why a request is invalid, in the API's manner, or None if it is fine.

    `counting` is for `count_tokens`, which takes no `max_tokens`. Stricter than the real API in one thing:
    that joins neighbouring messages of one role, here they must alternate, since ours always do.
    """
    if not isinstance(body, Mapping):
        return "The request body is not valid JSON"
    request = cast("Mapping[str, Any]", body)
    return (
        _bad_fields(request, counting=counting)
        or _bad_messages(cast("list[object]", request["messages"]))
        or _bad_blocks(request)
    )


def _bad_fields(request: Mapping[str, Any], *, counting: bool) -> str | None:
    for name in ("model", "messages") if counting else ("model", "max_tokens", "messages"):
        if name not in request:
            return f"{name}: Field required"
    if not isinstance(request["model"], str) or not request["model"]:
        return "model: String should have at least 1 character"
    if not counting:
        limit = request["max_tokens"]
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            return "max_tokens: Input should be greater than or equal to 1"
    if not isinstance(request["messages"], list) or not request["messages"]:
        return "messages: at least one message is required"
    return None


def _bad_messages(messages: list[object]) -> str | None:
    before = "assistant"
    for number, item in enumerate(messages):
        message = as_object(item)
        role = message.get("role")
        if role == "system" and number > 0:
            continue  # Claude Code 2.1.329 sends reminders this way, and does not count them as a turn
        if role not in ("user", "assistant"):
            return f"messages.{number}.role: Input should be 'user' or 'assistant'"
        if number == 0 and role != "user":
            return 'messages: first message must use the "user" role'
        if role == before:
            return (
                f'messages: roles must alternate between "user" and "assistant", but found multiple "{role}" in a row'
            )
        if not message.get("content"):
            return f"messages.{number}: all messages must have non-empty content"
        before = role
    return None


def _bad_blocks(request: Mapping[str, Any]) -> str | None:
    for place, block in request_blocks(request):
        if block.get("type") == "text" and not str(block.get("text", "")).strip():
            field = "system" if place == "system" else "messages"
            return f"{field}: text content blocks must contain non-whitespace text"
    found = cache_breakpoints(request)
    if found > _MOST_BREAKPOINTS:
        return f"A maximum of {_MOST_BREAKPOINTS} blocks with cache_control may be provided. Found {found}."
    return None

"""Token counts and prompt caching as the loopback API reckons them: deterministic, and explained here.

A text has one token for each four bytes of UTF-8, rounded up. A request is the list of its blocks in the API's
order, tools, system, messages, each counted as its canonical JSON without `cache_control`; text blocks count
their text alone. Up to the last block with a `cache_control`, the longest run of first blocks that an earlier
request with the same model wrote is *read*; the rest up to that block is *written*; what follows is input.
Unlike the real API there is no smallest size and nothing expires.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

__all__ = ["PromptCache", "PromptTokens", "as_object", "cache_breakpoints", "count_text", "objects", "request_blocks"]


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """The tokens of one request: plain, written to the cache, read from it."""

    plain: int
    written: int
    read: int


def count_text(text: str) -> int:
    """The tokens of `text`: a quarter of its bytes, rounded up."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def request_blocks(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The blocks of a request with where they stand, in the order of the cache: tools, system, messages."""
    for tool in objects(body.get("tools")):
        yield "tool", tool
    for block in _content(body.get("system")):
        yield "system", block
    for message in objects(body.get("messages")):
        for block in _content(message.get("content")):
            yield str(message.get("role")), block


def cache_breakpoints(body: Mapping[str, Any]) -> int:
    """How many blocks carry a `cache_control`."""
    return sum(1 for _, block in request_blocks(body) if block.get("cache_control"))


class PromptCache:
    """Which first blocks of requests have been seen before."""

    def __init__(self) -> None:
        self._written: set[bytes] = set()

    def clear(self) -> None:
        """Forget everything: the next request writes anew."""
        self._written.clear()

    def count(self, body: Mapping[str, Any], *, remember: bool = True) -> PromptTokens:
        """Count a request; with `remember`, what it writes can be read by later ones."""
        running = hashlib.blake2b(str(body.get("model")).encode(), digest_size=16)
        total = read = cached = 0
        breakpoints: list[bytes] = []
        for place, block in request_blocks(body):
            text = _canonical(block)
            total += count_text(text)
            running.update(f"\0{place}\0{text}".encode("utf-8", "surrogatepass"))
            prefix = running.digest()
            if prefix in self._written:
                read = total
            if block.get("cache_control"):
                breakpoints.append(prefix)
                cached = total
        if remember:
            self._written.update(breakpoints)
        read = min(read, cached)
        return PromptTokens(plain=total - cached, written=cached - read, read=read)


def _canonical(block: Mapping[str, Any]) -> str:
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return cast("str", block["text"])
    return json.dumps({key: value for key, value in block.items() if key != "cache_control"}, sort_keys=True)


def _content(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, str):
        yield {"type": "text", "text": value}
    else:
        yield from objects(value)


def as_object(value: object) -> Mapping[str, Any]:
    """The JSON object, or an empty one where it is something else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def objects(value: object) -> Iterator[Mapping[str, Any]]:
    """The objects in a JSON array; none where it is something else."""
    if isinstance(value, list):
        for item in cast("list[object]", value):
            if isinstance(item, Mapping):
                yield cast("Mapping[str, Any]", item)

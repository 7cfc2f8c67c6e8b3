"""What the loopback API was asked: a log that any thread may read."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from claude_comms.testing._prompt_cache import as_object, objects, request_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["RecordedRequest", "RequestLog"]

_FENCED_QUESTION = re.compile(r"<(question-[0-9a-f]+)>\n(.*)\n</\1>\s*\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as it arrived. Keys are not kept: `key_matches` says whether the right one was sent."""

    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    """By lower-case name; ``x-api-key`` and ``authorization`` read ``***``."""
    body: Any
    """The JSON value, or None where there was none."""
    key_matches: bool
    """Whether the key, in ``x-api-key`` or as a bearer token, was the server's `key`, or one of its `keys`."""
    time: float = field(default_factory=time.monotonic)
    """When it had arrived, in seconds on the monotonic clock."""

    @property
    def thread(self) -> list[tuple[str, str]]:
        """The messages as (role, text), the text blocks of each joined."""
        messages: list[tuple[str, str]] = []
        for message in objects(self._body.get("messages")):
            blocks = request_blocks({"messages": [message]})
            messages.append((str(message.get("role")), "".join(str(block.get("text", "")) for _, block in blocks)))
        return messages

    @property
    def system(self) -> list[str]:
        """The texts of the system blocks."""
        return [str(block.get("text", "")) for place, block in request_blocks(self._body) if place == "system"]

    @property
    def question(self) -> str:
        """What claude-comms asked: the fenced question that ends the last user message, else its last paragraph."""
        asked = next((text for role, text in reversed(self.thread) if role == "user"), "")
        fenced = _FENCED_QUESTION.search(asked)
        return fenced[2] if fenced else asked.strip().rpartition("\n\n")[2].strip()

    @property
    def tools(self) -> list[str]:
        """The names of the tools that the model was offered."""
        return [str(block.get("name")) for place, block in request_blocks(self._body) if place == "tool"]

    @property
    def _body(self) -> Mapping[str, Any]:
        return as_object(self.body)


class RequestLog:
    """The requests in the order they arrived; grows while it is read."""

    def __init__(self) -> None:
        self._entries: list[RecordedRequest] = []
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[RecordedRequest]:
        return iter(tuple(self._entries))

    def __getitem__(self, index: int) -> RecordedRequest:
        return self._entries[index]

    @property
    def messages(self) -> list[RecordedRequest]:
        """Only the questions: POST /v1/messages."""
        return [entry for entry in self if entry.method == "POST" and entry.path.partition("?")[0] == "/v1/messages"]

    def add(self, entry: RecordedRequest) -> None:
        """Append, and wake who waits."""
        with self._changed:
            self._entries.append(entry)
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget all."""
        with self._changed:
            self._entries.clear()

    def wait_for(self, count: int, timeout_s: float) -> list[RecordedRequest]:
        """Block until there are `count` entries. TimeoutError tells what had come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._entries) >= count, timeout_s):
                came = ", ".join(f"{entry.method} {entry.path}" for entry in self._entries) or "none"
                raise TimeoutError(f"{count} requests were awaited for {timeout_s} s; came: {came}")
            return list(self._entries)

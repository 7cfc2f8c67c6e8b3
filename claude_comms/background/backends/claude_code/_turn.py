"""One turn as Claude Code tells it: its text, its tools, what was refused, what it cost, and how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    UserMessage,
)

from claude_comms.background.backends.claude_code._calls import Calls
from claude_comms.background.backends.claude_code._failures import (
    REFUSED_KEY,
    SHORT,
    failed,
    failure_of,
    reason_of,
    refused_key,
)
from claude_comms.errors import TurnFailedError
from claude_comms.jsonable import as_mapping
from claude_comms.text import mended, one_line, shorten
from claude_comms.types import CLAUDE_CODE, Delta, Retried

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from claude_comms.background.backends.claude_code._usage import UsageMeter
    from claude_comms.background.backends.claude_runtime.confinement import Confinement
    from claude_comms.errors import BackendError
    from claude_comms.types import Emit, Usage

__all__ = ["Silent", "TurnReader"]

_SYNTHETIC = "<synthetic>"
_PARAGRAPH = "\n\n"


class TurnReader:
    """Takes a turn's messages one by one. Emits as it goes; what it has gathered is in its attributes."""

    def __init__(
        self,
        emit: Emit,
        confinement: Confinement,
        directory: Path,
        meter: UsageMeter,
        *,
        deadline: float | None = None,
    ) -> None:
        self._deadline = deadline
        self._emit = emit
        self.calls = Calls(emit, confinement, directory)
        self._meter = meter
        self._pieces: list[str] = []
        self._streamed: set[str] = set()
        self._message = ""
        self._open = False
        self._calls_tool = False
        self._new_paragraph = False
        self.retries: list[Retried] = []
        self.pause_s = 0.0
        """How long nothing will come after the message just taken: the pause before another try."""
        self.model = ""
        self.position: str | None = None
        """The uuid of the last row of the session that is part of the answer."""
        self.written = ""
        """What Claude Code wrote in place of an answer when the API failed."""
        self._failure_kind: str | None = None
        self.login = ""
        """The command that logs in, for an error."""
        self.check_spent: Callable[[Sequence[Usage]], None] | None = None
        """See `TurnRequest.check_spent`."""

    @property
    def text(self) -> str:
        """All that was emitted as text."""
        return "".join(self._pieces)

    def failure(self, result: ResultMessage) -> BackendError | None:
        """What is wrong with the turn that ended with `result`; None for a complete answer."""
        return failure_of(result, kind=self._failure_kind, written=self.written, partial=self.text, login=self.login)

    async def take(self, message: object) -> ResultMessage | None:
        """Work in one message; the result, once it is the last one. TurnFailedError, BackendUnavailableError
        and BudgetExceededError where nothing good can follow: the turn is still running then.
        """
        self.pause_s = 0.0
        match message:
            case ResultMessage():
                return message
            case StreamEvent(parent_tool_use_id=None):
                await self._take_event(message.event)
            case AssistantMessage(parent_tool_use_id=None):
                await self._take_answer(message)
            case UserMessage():
                await self.calls.take_results(message)
            case SystemMessage(subtype="api_retry"):
                await self._take_retry(message.data)
            case SystemMessage(subtype="permission_denied"):
                await self.calls.take_denial(message.data)
            case _:
                pass
        return None

    async def _take_event(self, event: object) -> None:
        # The API's own events come through as they are, whatever they are.
        event = as_mapping(event)
        self._meter.saw_event(event)
        delta = as_mapping(event.get("delta"))
        match event.get("type"):
            case "message_start":
                self._check_not_cut()
                self._message, self._open = str(as_mapping(event.get("message")).get("id", "")), True
                self._new_paragraph, self._calls_tool = bool(self._pieces), False
                self._check_spent()
            case "content_block_start":
                self._calls_tool |= as_mapping(event.get("content_block")).get("type") == "tool_use"
            case "content_block_delta" if delta.get("type") == "text_delta":
                self._streamed.add(self._message)
                await self._say(str(delta.get("text", "")))
            case "message_delta" if delta.get("stop_reason") is not None:
                self._open = False
                self._check_not_stopped_short(str(delta["stop_reason"]))
                if delta["stop_reason"] == "tool_use":  # a whole answer has been paid for, and is given
                    self._check_spent()
            case _:
                pass

    async def _say(self, text: str) -> None:
        if text and self._new_paragraph:
            text = _PARAGRAPH + text
            self._new_paragraph = False
        if text:
            text = mended(text)  # half a character can be neither stored nor printed
            self._pieces.append(text)
            await self._emit(Delta(text))

    def _check_spent(self) -> None:
        if self.check_spent is not None:
            self.check_spent(self._meter.requests)

    def _check_not_cut(self) -> None:
        """Claude Code asks again after a stream that broke off; text that was shown cannot be taken back."""
        if self._open and self._message in self._streamed:
            raise TurnFailedError(
                "the answer broke off in the middle, and was not asked for again because part of it was shown."
                " Ask again.",
                reason="cut",
                partial=self.text,
                backend=CLAUDE_CODE,
                retryable=True,
            )

    def _check_not_stopped_short(self, stop_reason: str) -> None:
        """Claude Code goes on by itself where an answer ended early, and calls the patchwork complete."""
        reason = SHORT.get(stop_reason)
        if stop_reason == "tool_use" and not self._calls_tool:
            reason = "cut"
        if reason is not None:
            raise failed(reason, f"the answer ended with {stop_reason}", self.text)

    async def _take_answer(self, message: AssistantMessage) -> None:
        texts = [block.text for block in message.content if isinstance(block, TextBlock)]
        if message.error is not None or message.model == _SYNTHETIC:
            self.written = one_line(" ".join(texts)) or str(message.error or "")
            self._failure_kind = message.error
            return
        self.model = message.model
        self.position = message.uuid or self.position
        if texts and message.message_id not in self._streamed:
            self._new_paragraph = bool(self._pieces)
            await self._say("".join(texts))
        self.calls.asked(message.content)

    async def _take_retry(self, data: Mapping[str, Any]) -> None:
        status, kind = data.get("error_status"), data.get("error")
        reason = str(kind or "the connection failed")
        if status in REFUSED_KEY:
            raise refused_key(status)
        if self._open:
            self._check_not_cut()
            self._open = False
        wait_s = float(data.get("retry_delay_ms") or 0.0) / 1000
        said = reason if status is None else f"{status} {reason}"
        retried = Retried(int(data.get("attempt") or len(self.retries) + 1), shorten(said, 100), wait_s)
        self.retries.append(retried)
        self.pause_s = wait_s
        await self._emit(retried)
        if self._deadline is not None and anyio.current_time() + wait_s >= self._deadline:
            raise failed(reason_of(status, kind), f"{said}, and the next try would come after the deadline", self.text)


class Silent:
    """Reads a turn to its end without telling anybody: whoever listened has been told how it ended."""

    async def take(self, message: object) -> ResultMessage | None:
        """The result, once it comes."""
        return message if isinstance(message, ResultMessage) else None

"""One turn as Claude Code tells it: its text, its tools, what was refused, what it cost, and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
from claude_agent_sdk import (
    AssistantMessage,
    ResultMessage,
    StreamEvent,
    SystemMessage,
    TextBlock,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)

from claude_comms.background.backends.claude_code._usage import UsageMeter, as_mapping
from claude_comms.errors import BackendError, BackendUnavailableError, TurnFailedError
from claude_comms.text import one_line, shorten
from claude_comms.types import CLAUDE_CODE, Delta, Refused, Retried, Source, ToolUsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.background.backends.claude_code._confinement import Confinement
    from claude_comms.types import Emit

__all__ = ["Silent", "TurnReader", "failure_of"]

_SYNTHETIC = "<synthetic>"
_ARGUMENTS_SHOWN = 200
_REFUSED_KEY = (401, 403)
_PARAGRAPH = "\n\n"
_SHORT = {
    "max_tokens": "max_tokens", "refusal": "refusal", "model_context_window_exceeded": "context_window",
    "pause_turn": "pause_turn",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Call:
    tool: str
    arguments: Mapping[str, Any]
    allowed: bool


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
        self._confinement = confinement
        self._directory = directory
        self._meter = meter
        self._pieces: list[str] = []
        self._streamed: set[str] = set()
        self._message = ""
        self._open = False
        self._calls_tool = False
        self._new_paragraph = False
        self._calls: dict[str, _Call] = {}
        self._files: dict[str, None] = {}
        self.retries: list[Retried] = []
        self.tools: list[ToolUsed] = []
        self.refusals: list[Refused] = []
        self.pause_s = 0.0
        """How long nothing will come after the message just taken: the pause before another try."""
        self.model = ""
        self.position: str | None = None
        """The uuid of the last row of the session that is part of the answer."""
        self.failure = ""
        """What Claude Code wrote in place of an answer when the API failed."""

    @property
    def text(self) -> str:
        """All that was emitted as text."""
        return "".join(self._pieces)

    @property
    def files(self) -> tuple[Source, ...]:
        """The files that were read, relative to the module's path where they are in it."""
        return tuple(Source("file", path) for path in self._files)

    async def take(self, message: object) -> ResultMessage | None:
        """Work in one message; the result, once it is the last one. TurnFailedError and BackendUnavailableError
        where nothing good can follow: the turn is still running then.
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
                self._take_results(message)
            case SystemMessage(subtype="api_retry"):
                await self._take_retry(message.data)
            case SystemMessage(subtype="permission_denied"):
                await self._take_denial(message.data)
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
            case "content_block_start":
                self._calls_tool |= as_mapping(event.get("content_block")).get("type") == "tool_use"
            case "content_block_delta" if delta.get("type") == "text_delta":
                self._streamed.add(self._message)
                await self._say(str(delta.get("text", "")))
            case "message_delta" if delta.get("stop_reason") is not None:
                self._open = False
                self._check_not_stopped_short(str(delta["stop_reason"]))
            case _:
                pass

    async def _say(self, text: str) -> None:
        if text and self._new_paragraph:
            text = _PARAGRAPH + text
            self._new_paragraph = False
        if text:
            self._pieces.append(text)
            await self._emit(Delta(text))

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
        reason = _SHORT.get(stop_reason)
        if stop_reason == "tool_use" and not self._calls_tool:
            reason = "cut"
        if reason is not None:
            raise _failed(reason, f"the answer ended with {stop_reason}", self)

    async def _take_answer(self, message: AssistantMessage) -> None:
        texts = [block.text for block in message.content if isinstance(block, TextBlock)]
        if message.error is not None or message.model == _SYNTHETIC:
            self.failure = one_line(" ".join(texts)) or str(message.error or "")
            return
        self.model = message.model
        self.position = message.uuid or self.position
        if texts and message.message_id not in self._streamed:
            self._new_paragraph = bool(self._pieces)
            await self._say("".join(texts))
        for block in message.content:
            if isinstance(block, ToolUseBlock):
                await self._take_call(block)

    async def _take_call(self, block: ToolUseBlock) -> None:
        if block.id in self._calls:
            return
        decision = self._confinement.decide(block.name, block.input, self._directory)
        self._calls[block.id] = _Call(block.name, block.input, decision.allowed)
        if not decision.allowed:
            await self._refuse(Refused(shorten(block.name, 64), decision.target, decision.reason))
            return
        used = ToolUsed(block.name, shorten(json.dumps(block.input, ensure_ascii=False), _ARGUMENTS_SHOWN))
        self.tools.append(used)
        await self._emit(used)

    async def _refuse(self, refused: Refused) -> None:
        self.refusals.append(refused)
        await self._emit(refused)

    async def _take_denial(self, data: Mapping[str, Any]) -> None:
        """Claude Code itself refused what we would have allowed."""
        call = self._calls.get(str(data.get("tool_use_id")))
        if call is None or call.allowed:
            reason = data.get("decision_reason") or data.get("message") or "refused by Claude Code"
            target = "" if call is None else json.dumps(dict(call.arguments))
            tool = shorten(str(data.get("tool_name", "")), 64)
            await self._refuse(Refused(tool, shorten(target, _ARGUMENTS_SHOWN), shorten(str(reason), _ARGUMENTS_SHOWN)))

    def _take_results(self, message: UserMessage) -> None:
        if isinstance(message.content, str):
            return
        for block in message.content:
            call = self._calls.get(block.tool_use_id) if isinstance(block, ToolResultBlock) else None
            if call is None or not isinstance(block, ToolResultBlock) or block.is_error:
                continue
            if call.tool == "Read":
                self._note_file(str(call.arguments.get("file_path", "")))
            elif call.tool == "Grep" and call.arguments.get("output_mode") == "content":
                self._note_found(message.tool_use_result)

    def _note_found(self, result: object) -> None:
        names = cast("dict[str, Any]", result).get("filenames") if isinstance(result, dict) else None
        for name in cast("list[object]", names) if isinstance(names, list) else []:
            self._note_file(str(name))

    def _note_file(self, given: str) -> None:
        path = self._directory / given
        base = self._directory
        self._files[str(path.relative_to(base)) if path.is_relative_to(base) else str(path)] = None

    async def _take_retry(self, data: Mapping[str, Any]) -> None:
        status, reason = data.get("error_status"), str(data.get("error") or "the connection failed")
        if status in _REFUSED_KEY:
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
            raise _failed(_reason_of(status), f"{said}, and the next try would come after the deadline", self)


class Silent:
    """Reads a turn to its end without telling anybody: whoever listened has been told how it ended."""

    async def take(self, message: object) -> ResultMessage | None:
        """The result, once it comes."""
        return message if isinstance(message, ResultMessage) else None


def refused_key(status: int | None) -> BackendUnavailableError:
    """The error for a login that the API does not take."""
    return BackendUnavailableError(
        f"the API refuses Claude Code's API key or login (status {status}). Correct ANTHROPIC_API_KEY, or log in as"
        " `claude-comms doctor` says.",
        backend=CLAUDE_CODE,
    )


_REASONS = {
    "rate_limit": "rate_limited", "overloaded": "overloaded", "server_error": "server_error",
    "invalid_request": "invalid_request", "billing_error": "billing", "max_output_tokens": "max_tokens",
}  # fmt: skip
_STATUSES = {400: "invalid_request", 413: "context_window", 429: "rate_limited", 529: "overloaded"}
_PASSING = {"rate_limited", "overloaded", "server_error", "cut"}


def failure_of(result: ResultMessage, reader: TurnReader) -> BackendError | None:
    """What is wrong with a turn that ended by itself; None for a complete answer."""
    said = shorten(reader.failure or one_line(result.result or "") or "; ".join(result.errors or ()), 500)
    if result.is_error or result.subtype != "success" or reader.failure:
        status = result.api_error_status
        if status in _REFUSED_KEY or "authentication" in said.lower() or "/login" in said:
            return refused_key(status)
        return _failed(_reason(status, result, said), said or result.subtype, reader)
    if result.stop_reason in {"end_turn", "stop_sequence", "tool_use"}:
        return None
    reason = "cut" if result.stop_reason is None else _SHORT.get(result.stop_reason, result.stop_reason)
    return _failed(reason, f"the answer ended with {result.stop_reason}", reader)


def _reason(status: int | None, result: ResultMessage, said: str) -> str:
    if "prompt is too long" in said.lower():
        return "context_window"
    if status is not None:
        return _reason_of(status)
    for word, reason in _REASONS.items():
        if word in said.lower():
            return reason
    return "max_turns" if result.subtype == "error_max_turns" else "cut" if _broke(said) else "server_error"


def _reason_of(status: int | None) -> str:
    if status is None:
        return "cut"
    return _STATUSES.get(status, "server_error" if status >= 500 else "invalid_request")


def _broke(said: str) -> bool:
    """Whether the words are Claude Code's for a connection that broke."""
    return any(word in said.lower() for word in ("connection", "stream", "incomplete", "terminated"))


def _failed(reason: str, said: str, reader: TurnReader) -> TurnFailedError:
    advice = "Ask again." if reason in _PASSING else "Ask something shorter." if reason == "context_window" else ""
    return TurnFailedError(
        f"Claude Code got no complete answer ({reason}): {said}. {advice}".rstrip(),
        reason=reason,
        partial=reader.text,
        backend=CLAUDE_CODE,
        retryable=reason in _PASSING,
    )

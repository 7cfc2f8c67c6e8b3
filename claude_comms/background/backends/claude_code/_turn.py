"""One turn as Claude Code tells it: its text, its tools, what was refused, what it cost, and how it ended."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
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

from claude_comms.background.backends.claude_code._confinement import FILE_TOOLS
from claude_comms.background.backends.claude_code._failures import (
    REFUSED_KEY,
    SHORT,
    failed,
    failure_of,
    reason_of,
    refused_key,
)
from claude_comms.background.backends.claude_code._usage import UsageMeter, as_mapping
from claude_comms.errors import TurnFailedError
from claude_comms.text import one_line, shorten
from claude_comms.types import CLAUDE_CODE, Delta, Refused, Retried, Source, ToolUsed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.background.backends.claude_code._confinement import Confinement, Decision
    from claude_comms.errors import BackendError
    from claude_comms.types import Emit

__all__ = ["Silent", "TurnReader"]

_SYNTHETIC = "<synthetic>"
_ARGUMENTS_SHOWN = 200
_PARAGRAPH = "\n\n"
_TAG = re.compile(r"</?tool_use_error>")
_DENIAL = re.compile(r"denied by your permission settings|^Permission to use|^Claude requested permissions")
"""How Claude Code says that it refused a call. Believed of file tools only: what Bash prints could say it too."""


@dataclass(slots=True)
class _Call:
    """A call as the model asked for it, and once it is known, whether it was used or refused."""

    tool: str
    arguments: Mapping[str, Any]
    outcome: ToolUsed | Refused | None = None
    files: list[Path] = field(default_factory=list["Path"])
    """What it read, with links followed."""

    @property
    def used(self) -> ToolUsed:
        return ToolUsed(self.tool, shorten(json.dumps(self.arguments, ensure_ascii=False), _ARGUMENTS_SHOWN))

    def refused(self, target: str, reason: str) -> Refused:
        return Refused(shorten(self.tool, 64), target, shorten(reason, _ARGUMENTS_SHOWN))


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
        self._told = 0
        self.rulings: Mapping[str, Decision] = {}
        """What was decided before each call, by the call's id; grows while the turn runs."""
        self.retries: list[Retried] = []
        self.tools: list[ToolUsed] = []
        self.refusals: list[Refused] = []
        self.pause_s = 0.0
        """How long nothing will come after the message just taken: the pause before another try."""
        self.model = ""
        self.position: str | None = None
        """The uuid of the last row of the session that is part of the answer."""
        self.written = ""
        """What Claude Code wrote in place of an answer when the API failed."""

    @property
    def text(self) -> str:
        """All that was emitted as text."""
        return "".join(self._pieces)

    @property
    def files(self) -> tuple[Source, ...]:
        """The files that were read, in the order of the calls, relative to the module's path where they are in it."""
        base = self._directory.resolve()
        paths = dict.fromkeys(path for call in self._calls.values() for path in call.files)
        return tuple(
            Source("file", str(path.relative_to(base) if path.is_relative_to(base) else path)) for path in paths
        )

    def failure(self, result: ResultMessage) -> BackendError | None:
        """What is wrong with the turn that ended with `result`; None for a complete answer."""
        return failure_of(result, written=self.written, partial=self.text)

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
                await self._take_results(message)
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
        reason = SHORT.get(stop_reason)
        if stop_reason == "tool_use" and not self._calls_tool:
            reason = "cut"
        if reason is not None:
            raise failed(reason, f"the answer ended with {stop_reason}", self.text)

    async def _take_answer(self, message: AssistantMessage) -> None:
        texts = [block.text for block in message.content if isinstance(block, TextBlock)]
        if message.error is not None or message.model == _SYNTHETIC:
            self.written = one_line(" ".join(texts)) or str(message.error or "")
            return
        self.model = message.model
        self.position = message.uuid or self.position
        if texts and message.message_id not in self._streamed:
            self._new_paragraph = bool(self._pieces)
            await self._say("".join(texts))
        for block in message.content:
            if isinstance(block, ToolUseBlock):
                self._calls.setdefault(block.id, _Call(block.name, block.input))

    # --- tools ---

    async def settle_running(self) -> None:
        """Tell of the calls that were decided and whose results are still to come."""
        for use_id, call in self._calls.items():
            ruling = self.rulings.get(use_id)
            if call.outcome is None and ruling is not None:
                call.outcome = call.used if ruling.allowed else call.refused(ruling.target, ruling.reason)
        await self._tell()

    async def settle(self) -> None:
        """Tell of all calls: none has a result to come. One that was never decided did not happen."""
        await self.settle_running()
        for use_id in [use_id for use_id, call in self._calls.items() if call.outcome is None]:
            del self._calls[use_id]
        await self._tell()

    async def _tell(self) -> None:
        """Tell what is known, in the order of the calls: results come in any."""
        for call in list(self._calls.values())[self._told :]:
            if call.outcome is None:
                return
            self._told += 1
            if isinstance(call.outcome, Refused):
                self.refusals.append(call.outcome)
            else:
                self.tools.append(call.outcome)
            await self._emit(call.outcome)

    async def _take_denial(self, data: Mapping[str, Any]) -> None:
        """Claude Code itself refused a call, whatever we had decided."""
        use_id = str(data.get("tool_use_id"))
        call = self._calls.setdefault(use_id, _Call(str(data.get("tool_name", "")), {}))
        if call.outcome is None:
            reason = data.get("decision_reason") or data.get("message") or "refused by Claude Code"
            call.outcome = self._refusal(use_id, call) or call.refused(self._guess(call).target, str(reason))
        await self._tell()

    async def _take_results(self, message: UserMessage) -> None:
        for block in message.content:
            call = self._calls.get(block.tool_use_id) if isinstance(block, ToolResultBlock) else None
            if call is None or not isinstance(block, ToolResultBlock):
                continue
            if call.outcome is None:
                call.outcome = self._outcome(call, block)
            if not block.is_error:
                self._note_result(call, self.rulings.get(block.tool_use_id), message.tool_use_result)
        await self._tell()

    def _outcome(self, call: _Call, result: ToolResultBlock) -> ToolUsed | Refused:
        refusal = self._refusal(result.tool_use_id, call)
        if refusal is not None or not result.is_error:
            return refusal or call.used
        if result.tool_use_id not in self.rulings:
            # Claude Code turned it away before it asked us; nothing happened, and our reason is the clearer one.
            guess = self._guess(call)
            if not guess.allowed:
                return call.refused(guess.target, guess.reason)
        said = _TAG.sub("", str(result.content))
        if call.tool in FILE_TOOLS and _DENIAL.search(said):
            return call.refused(self._guess(call).target, said)
        return call.used

    def _refusal(self, use_id: str, call: _Call) -> Refused | None:
        ruling = self.rulings.get(use_id)
        return None if ruling is None or ruling.allowed else call.refused(ruling.target, ruling.reason)

    def _guess(self, call: _Call) -> Decision:
        return self._confinement.rule(call.tool, call.arguments, self._directory)

    def _note_result(self, call: _Call, ruling: Decision | None, result: object) -> None:
        if call.tool == "Read" and ruling is not None and ruling.path is not None:
            call.files.append(ruling.path)
        elif call.tool == "Grep" and call.arguments.get("output_mode") == "content":
            names = as_mapping(result).get("filenames")
            found = cast("list[object]", names) if isinstance(names, list) else []
            call.files.extend((self._directory / str(name)).resolve() for name in found)

    async def _take_retry(self, data: Mapping[str, Any]) -> None:
        status, reason = data.get("error_status"), str(data.get("error") or "the connection failed")
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
            raise failed(reason_of(status), f"{said}, and the next try would come after the deadline", self.text)


class Silent:
    """Reads a turn to its end without telling anybody: whoever listened has been told how it ended."""

    async def take(self, message: object) -> ResultMessage | None:
        """The result, once it comes."""
        return message if isinstance(message, ResultMessage) else None

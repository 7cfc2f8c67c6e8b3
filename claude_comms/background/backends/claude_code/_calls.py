"""The tool calls of one turn: what was asked for, what was used, what was refused, which files were read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from claude_agent_sdk import ToolResultBlock, ToolUseBlock

from claude_comms.background.backends.claude_runtime.confinement import FILE_TOOLS
from claude_comms.jsonable import as_mapping
from claude_comms.text import shorten
from claude_comms.types import Refused, Source, ToolUsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from claude_agent_sdk import ContentBlock, UserMessage

    from claude_comms.background.backends.claude_runtime.confinement import Confinement, Decision
    from claude_comms.types import Emit

__all__ = ["Calls"]

_ARGUMENTS_SHOWN = 200
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


class Calls:
    """Follows the calls of a turn by their ids. Emits each once its outcome is known, in the order of the calls."""

    def __init__(self, emit: Emit, confinement: Confinement, directory: Path) -> None:
        self._emit = emit
        self._confinement = confinement
        self._directory = directory
        self._known: dict[str, _Call] = {}
        self._told = 0
        self.rulings: Mapping[str, Decision] = {}
        """What was decided before each call, by the call's id; grows while the turn runs."""
        self.tools: list[ToolUsed] = []
        self.refusals: list[Refused] = []

    @property
    def files(self) -> tuple[Source, ...]:
        """The files that were read, in the order of the calls, relative to the module's path where they are in it."""
        base = self._directory.resolve()
        paths = dict.fromkeys(path for call in self._known.values() for path in call.files)
        return tuple(
            Source("file", str(path.relative_to(base) if path.is_relative_to(base) else path)) for path in paths
        )

    def asked(self, blocks: Iterable[ContentBlock]) -> None:
        """Note the calls that a message of the model asks for."""
        for block in blocks:
            if isinstance(block, ToolUseBlock):
                self._known.setdefault(block.id, _Call(block.name, block.input))

    async def settle_running(self) -> None:
        """Tell of the calls that were decided and whose results are still to come."""
        for use_id, call in self._known.items():
            ruling = self.rulings.get(use_id)
            if call.outcome is None and ruling is not None:
                call.outcome = call.used if ruling.allowed else call.refused(ruling.target, ruling.reason)
        await self._tell()

    async def settle(self) -> None:
        """Tell of all calls: none has a result to come. One that was never decided did not happen."""
        await self.settle_running()
        for use_id in [use_id for use_id, call in self._known.items() if call.outcome is None]:
            del self._known[use_id]
        await self._tell()

    async def _tell(self) -> None:
        """Tell what is known, in the order of the calls: results come in any."""
        for call in list(self._known.values())[self._told :]:
            if call.outcome is None:
                return
            self._told += 1
            if isinstance(call.outcome, Refused):
                self.refusals.append(call.outcome)
            else:
                self.tools.append(call.outcome)
            await self._emit(call.outcome)

    async def take_denial(self, data: Mapping[str, Any]) -> None:
        """Claude Code itself refused a call, whatever we had decided."""
        use_id = str(data.get("tool_use_id"))
        call = self._known.setdefault(use_id, _Call(str(data.get("tool_name", "")), {}))
        if call.outcome is None:
            reason = data.get("decision_reason") or data.get("message") or "refused by Claude Code"
            call.outcome = self._refusal(use_id, call) or call.refused(self._guess(call).target, str(reason))
        await self._tell()

    async def take_results(self, message: UserMessage) -> None:
        """Note how calls ended."""
        for block in message.content:
            call = self._known.get(block.tool_use_id) if isinstance(block, ToolResultBlock) else None
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

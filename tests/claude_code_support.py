"""What the tests of Claude Code share: a conversation told as the engine would, and a look at all processes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_comms.types import (
    Delta,
    HistoryMessage,
    Pair,
    Prompt,
    Role,
    SystemBlock,
    TokenCount,
    TurnEvent,
    TurnRequest,
    TurnResult,
)

if TYPE_CHECKING:
    from claude_comms.background.backends.protocol import Session
    from claude_comms.testing import RecordedRequest

READING = ("Read", "Grep", "Glob")
MODEL = "claude-sonnet-5-5"


def last_line(request: RecordedRequest) -> str:
    """What was asked: Claude Code puts its own reminders before it."""
    return request.question.splitlines()[-1] if request.question else ""


def descendants(root: int | None = None) -> set[int]:
    """All processes below `root` (this one), zombies left out: they wait for nobody but us."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] != b"Z":
            parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    level = {root or os.getpid()}
    while level := {pid for pid, parent in parents.items() if parent in level}:
        found |= level
    return found


@dataclass
class Talk:
    """A conversation with one session, told as the engine would: the history grows with each complete turn."""

    session: Session
    handle: str | None = None
    history: list[HistoryMessage] = field(default_factory=list[HistoryMessage])
    events: list[TurnEvent] = field(default_factory=list[TurnEvent])
    system: str = "You are the module."

    async def emit(self, event: TurnEvent) -> None:
        self.events.append(event)

    def request(self, question: str, **options: Any) -> TurnRequest:
        prompt = Prompt(
            Pair("marker", "arangodb"),
            (SystemBlock("target", self.system),),
            tuple(self.history),
            question,
            question,
            "query",
            "v",
            TokenCount(1),
        )
        return TurnRequest(prompt, "c_1", MODEL, 8192, self.handle, **options)

    async def ask(self, question: str, **options: Any) -> TurnResult:
        self.events.clear()
        result = await self.session.ask(self.request(question, **options), self.emit)
        assert "".join(event.text for event in self.events if isinstance(event, Delta)) == result.text
        self.handle = result.session_handle
        self.history += [HistoryMessage(Role.QUESTION, question), HistoryMessage(Role.ANSWER, result.text)]
        return result

    def on(self, session: Session) -> Talk:
        """The same conversation, stored, taken up by another session."""
        return Talk(session, self.handle, list(self.history))

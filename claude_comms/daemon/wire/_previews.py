"""What would be sent for a question, as the daemon tells of it."""

from __future__ import annotations

from typing import Any

from claude_comms.daemon.wire._base import Said
from claude_comms.types import (
    HistoryMessage,
    Omission,
    Pair,
    Passage,
    Preview,
    Prompt,
    Role,
    SystemBlock,
    TokenCount,
)

__all__ = ["PreviewModel", "preview_dict"]


class TokenCountModel(Said):
    """A number of tokens."""

    tokens: int
    estimated: bool

    def inner(self) -> TokenCount:
        """The value."""
        return TokenCount(**self.fields())


class SystemBlockModel(Said):
    """One system block."""

    name: str
    text: str

    def inner(self) -> SystemBlock:
        """The value."""
        return SystemBlock(**self.fields())


class HistoryMessageModel(Said):
    """One message of the thread."""

    role: Role
    text: str

    def inner(self) -> HistoryMessage:
        """The value."""
        return HistoryMessage(**self.fields())


class OmissionModel(Said):
    """Something that was left out."""

    what: str
    count: int
    why: str

    def inner(self) -> Omission:
        """The value."""
        return Omission(**self.fields())


class PassageModel(Said):
    """Something the target's descriptor says."""

    kind: str
    title: str
    text: str

    def inner(self) -> Passage:
        """The value."""
        return Passage(**self.fields())


class PreviewModel(Said):
    """A prompt, and to whom it would go."""

    source: str
    target: str
    backend: str
    reason: str
    model: str
    thread_id: str | None
    template: str
    version: str
    tokens: TokenCountModel
    system: tuple[SystemBlockModel, ...]
    history: tuple[HistoryMessageModel, ...]
    message: str
    question: str
    omitted: tuple[OmissionModel, ...]
    passages: tuple[PassageModel, ...]

    def inner(self) -> Preview:
        """The value."""
        said = self.fields()
        pair = Pair(said.pop("source"), said.pop("target"))
        route = {name: said.pop(name) for name in ("backend", "reason", "model", "thread_id")}
        return Preview(Prompt(pair=pair, **said), **route)


def preview_dict(preview: Preview) -> dict[str, Any]:
    """`preview` as JSON values."""
    prompt = preview.prompt
    return {
        "source": prompt.pair.source,
        "target": prompt.pair.target,
        "backend": preview.backend,
        "reason": preview.reason,
        "model": preview.model,
        "thread_id": preview.thread_id,
        "template": prompt.template,
        "version": prompt.version,
        "tokens": {"tokens": prompt.tokens.tokens, "estimated": prompt.tokens.estimated},
        "system": [{"name": block.name, "text": block.text} for block in prompt.system],
        "history": [{"role": str(message.role), "text": message.text} for message in prompt.history],
        "message": prompt.message,
        "question": prompt.question,
        "omitted": [omission.as_dict() for omission in prompt.omitted],
        "passages": [{"kind": said.kind, "title": said.title, "text": said.text} for said in prompt.passages],
    }

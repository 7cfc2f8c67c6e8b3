"""``--show-prompt``: what would be sent, as text or as a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._wording import tokens

if TYPE_CHECKING:
    from claude_comms.types import Preview

__all__ = ["show_preview"]


def show_preview(preview: Preview, *, as_json: bool) -> None:
    """Print `preview`; nothing was asked."""
    if as_json:
        console.document(_facts(preview))
        return
    prompt = preview.prompt
    console.note(f"{prompt.pair} · {preview.backend}: {preview.reason} · {preview.model}")
    console.note(f"{tokens(prompt.tokens)} · template {prompt.template} · context {prompt.version}")
    for omission in prompt.omitted:
        console.note(f"left out: {omission.count} {omission.what} ({omission.why})")
    for block in prompt.system:
        _section(f"system: {block.name}", block.text)
    for message in prompt.history:
        _section(f"history: {message.role}", message.text)
    _section("message", prompt.message)
    console.note("Nothing was asked.")


def _section(title: str, text: str) -> None:
    console.heading(f"--- {title} ---")
    console.result(text)
    console.result()


def _facts(preview: Preview) -> dict[str, Any]:
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
        "omitted": [omission.as_dict() for omission in prompt.omitted],
    }

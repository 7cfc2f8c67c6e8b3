"""What the shell completes besides options: modules, conversations, backends. Never fails, never writes."""

from __future__ import annotations

__all__ = ["complete_backend", "complete_conversation", "complete_module"]

_BACKENDS = {
    "auto": "decide for each new conversation",
    "offline": "no model: quotes the target's descriptor",
    "api": "the Messages API",
}
_MOST = 50


def complete_backend(incomplete: str) -> list[tuple[str, str]]:
    """Backends of that beginning."""
    return [(name, meaning) for name, meaning in _BACKENDS.items() if name.startswith(incomplete)]


def complete_module(incomplete: str) -> list[tuple[str, str]]:
    """Known modules of that beginning, with their summaries."""
    from claude_comms.cli._sources import open_registry
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.text import shorten

    try:
        modules = open_registry().list()
    except ClaudeCommsError:
        return []
    return [
        (module.name, shorten(module.descriptor.summary, 60))
        for module in modules
        if module.name.startswith(incomplete)
    ]


def complete_conversation(incomplete: str) -> list[tuple[str, str]]:
    """Conversations of that beginning, the newest first, with their titles."""
    from claude_comms.communicator import create_communicator
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.settings import Settings
    from claude_comms.text import shorten

    try:
        settings = Settings.load()
        if not settings.database_path.exists():
            return []
        with create_communicator(None, settings=settings, use_background=False) as comm:
            found = comm.list_conversations(any_source=True, limit=_MOST)
    except ClaudeCommsError:
        return []
    return [
        (conversation.thread_id, shorten(conversation.title, 60))
        for conversation in found
        if conversation.thread_id.startswith(incomplete)
    ]

"""What the shell completes besides options: modules, conversations, backends. Never fails, never writes."""

from __future__ import annotations

from typing import Any

__all__ = ["complete_backend", "complete_conversation", "complete_instance", "complete_job", "complete_module"]

_BACKENDS = {
    "auto": "decide for each new conversation",
    "offline": "no model: quotes the target's descriptor",
    "api": "the Messages API",
    "claude-code": "Claude Code, in the target's directory",
    "bridge": "Claude Code behind a Node bridge, or a stock claude-code-mcp",
}
_MOST = 50
_PATIENCE_S = 2.0


def complete_backend(incomplete: str) -> list[tuple[str, str]]:
    """Backends of that beginning, those of installed packages among them."""
    from claude_comms.background.backends import backend_names

    meanings = {**_BACKENDS, **{name: "installed" for name in backend_names() if name not in _BACKENDS}}
    return [(name, meaning) for name, meaning in meanings.items() if name.startswith(incomplete)]


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


def complete_instance(incomplete: str) -> list[tuple[str, str]]:
    """The running daemon's instances of that beginning, by id and by name."""
    found: list[tuple[str, str]] = []
    for info in _asked("/v1/instances"):
        told = f"{info['source']} → {info['target']}, {info['state']}"
        found += [(str(info[key]), told) for key in ("instance_id", "name") if info[key]]
    return [(name, told) for name, told in found if name.startswith(incomplete)]


def complete_job(incomplete: str) -> list[tuple[str, str]]:
    """The running daemon's jobs of that beginning, the newest first."""
    from claude_comms.text import shorten

    jobs = [(str(job["job_id"]), f"{job['state']}: {shorten(job['prompt'], 50)}") for job in _asked("/v1/jobs")]
    return [(job_id, told) for job_id, told in jobs if job_id.startswith(incomplete)]


def _asked(route: str) -> list[dict[str, Any]]:
    """What a running daemon answers; nothing where none runs, or it does not answer at once."""
    from claude_comms.errors import ClaudeCommsError
    from claude_comms.settings import Settings

    try:
        from claude_comms.daemon import find, short_request

        info = find(Settings.load())
        return [] if info is None else short_request(info.socket, "GET", route, timeout_s=_PATIENCE_S)
    except ClaudeCommsError:
        return []

"""A claude-code instance's session in an interactive Claude Code, and what was said there into the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from claude_comms.background.backends.claude_code import ClaudeCodeBackend
from claude_comms.cli import _console as console
from claude_comms.cli._sources import open_registry
from claude_comms.communicator import create_communicator
from claude_comms.settings import Settings
from claude_comms.types import ANONYMOUS, CLAUDE_CODE, InstanceSpec, Pair, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.types import InstanceInfo, Prompt, TerminalTurn

__all__ = ["handed_over"]

_STORED_WITHIN_S = 60.0
_NOTHING = "-"
"""What the prompt is built for whose system blocks and history are wanted: they do not depend on the question."""


def handed_over(info: InstanceInfo) -> tuple[int, str | None]:
    """Run Claude Code here on the session that `info`, a paused instance, holds. How many turns were had and stored,
    and in which conversation.
    """
    settings = Settings.load()
    prompt = _prompt(settings, info)
    request = TurnRequest(
        prompt,
        info.thread_id or "",
        info.model or settings.model,
        settings.max_output_tokens,
        session_handle=anyio.run(_handle, settings, info),
    )
    target = open_registry(settings).get(info.target)
    pair = Pair(info.source, info.target)
    spec = InstanceSpec(pair, CLAUDE_CODE, info.model, info.grants, target.path)
    with _backend(settings).in_terminal(spec, request) as session:
        console.note(f"{info.name or info.instance_id} is paused while you talk. Leave with /exit.")
        code = session.run()
        turns = session.turns()
    if code:
        console.note(f"Claude Code ended with exit code {code}.")
    if not turns:
        return 0, info.thread_id
    return len(turns), _stored(settings, info, turns)


def _backend(settings: Settings) -> ClaudeCodeBackend:
    from claude_comms.background.backends import make_backend

    backend = make_backend(CLAUDE_CODE, settings)
    assert isinstance(backend, ClaudeCodeBackend)  # noqa: S101 - that is what it is called
    return backend


def _prompt(settings: Settings, info: InstanceInfo) -> Prompt:
    source = None if info.source == ANONYMOUS else info.source
    with create_communicator(
        source, settings=settings, use_background=True, backend=info.backend, model=info.model
    ) as comm:
        return comm.preview(info.target, _NOTHING, thread_id=info.thread_id).prompt


async def _handle(settings: Settings, info: InstanceInfo) -> str | None:
    """What finds the session of the conversation that the instance holds."""
    from claude_comms.conversations import ConversationStore
    from claude_comms.storage import Database, OwnerLock

    if info.thread_id is None:
        return None
    database = Database(settings.database_path)
    await database.open()
    try:
        return await ConversationStore(database, OwnerLock(settings.database_path)).session(info.thread_id, CLAUDE_CODE)
    finally:
        await database.close()


def _stored(settings: Settings, info: InstanceInfo, turns: Sequence[TerminalTurn]) -> str:
    """Have the daemon store what was said, as turns of the conversation or of a new one; its id.

    A daemon that ended meanwhile is started again: the turns are nowhere else.
    """
    from claude_comms.daemon import ensure, short_request

    body = {"turns": [turn.as_dict() for turn in turns]}
    route = f"/v1/instances/{info.instance_id}/turns"
    return short_request(ensure(settings).socket, "POST", route, body, timeout_s=_STORED_WITHIN_S)["thread_id"]

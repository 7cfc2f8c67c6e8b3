"""Which session a new process is for: the one that a question's handle names, or one that is built anew."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from claude_comms.background.backends.claude_runtime.transcript import (
    find_transcript,
    lead_to,
    recalls,
    write_transcript,
)
from claude_comms.errors import BackendProtocolError, BackendUnavailableError
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.background.backends.claude_runtime.leases import Lease
    from claude_comms.background.backends.claude_runtime.workspace import Workspace
    from claude_comms.types import InstanceSpec, TurnRequest

__all__ = ["Place", "find_place", "handle_parts", "new_session_id", "require_directory"]

_LEASE_WAIT_S = 1.0
"""For another turn to give the session up. Longer would only delay: two questions in one conversation are rare."""
_LEASE_TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Place:
    """A session, with its lease taken, and why it had to be built anew."""

    lease: Lease
    session_id: str
    transcript: Path | None = None
    position: str | None = None
    rebuilt: str = ""
    kept: bool = False
    """Whether the session is one that a handle names."""


async def find_place(
    workspace: Workspace,
    request: TurnRequest,
    directory: Path,
    *,
    version: str,
    wait_s: float,
    rebuild: str,
    backend: str = CLAUDE_CODE,
) -> Place:
    """Where the question goes. `rebuild` says why it cannot be the session that its handle names, else it is empty.

    Where another turn has that session, it is waited for: 1 s, and no longer than `wait_s`.
    """
    if request.session_handle is not None and not rebuild:
        session_id, position = handle_parts(request.session_handle)
        transcript = find_transcript(workspace.config, session_id)
        if transcript is None:
            return _anew(workspace, request, directory, version, "the session's file is gone", backend)
        lease = workspace.lease(session_id)
        rebuild = await _taken(lease, wait_s) or _unfit(transcript, position, request)
        if not rebuild:
            return Place(lease, session_id, transcript, position or None, kept=True)
        lease.release()
    return _anew(workspace, request, directory, version, rebuild, backend)


async def _taken(lease: Lease, wait_s: float) -> str:
    """Take `lease`; why that could not be done, else empty. An idle process holds none, so the wait is short."""
    until = anyio.current_time() + min(_LEASE_WAIT_S, wait_s)
    while not lease.take():
        if anyio.current_time() >= until:
            return f"the session is in use by another {'turn' if lease.held_here else 'process'}"
        await anyio.sleep(_LEASE_TICK_S)
    return ""


def _anew(
    workspace: Workspace, request: TurnRequest, directory: Path, version: str, rebuilt: str, backend: str
) -> Place:
    history = request.prompt.history
    session_id, transcript = new_session_id(), None
    if history:
        session_id = write_transcript(workspace.config, directory, history, model=request.model, version=version)
        transcript = find_transcript(workspace.config, session_id)
        rebuilt = rebuilt or "this backend held no session of the conversation"
    lease = workspace.lease(session_id)
    if not lease.take():  # a fresh id: nobody can have it
        raise BackendProtocolError("a new session's lease is taken.", backend=backend)
    return Place(lease, session_id, transcript, rebuilt=rebuilt)


def _unfit(transcript: Path, position: str, request: TurnRequest) -> str:
    """Why a session cannot be resumed from `transcript`; empty where it can, and then it ends in `position`."""
    if not position:
        return ""
    # Without its file a warm process begins another that holds only what came after.
    if not recalls(transcript, position, request.prompt.history):
        return "the session's file lacks a part of the conversation"
    return "" if lead_to(transcript, position) else "the session's file cannot be written"


def handle_parts(handle: str) -> tuple[str, str]:
    """A handle's session id, and the row that the session ended in; empty where it does not say."""
    session_id, _, position = handle.partition("@")
    return session_id, position


def new_session_id() -> str:
    """An id for a session that does not exist yet."""
    return str(uuid.uuid4())


def require_directory(spec: InstanceSpec, *, backend: str = CLAUDE_CODE) -> None:
    """BackendUnavailableError where the module has a path and no process can sit there."""
    if spec.directory is None:
        return
    try:
        if spec.directory.is_dir():
            return
        reason = "is not a directory"
    except OSError as error:
        reason = f"cannot be looked at ({error.strerror or error})"
    raise BackendUnavailableError(
        f"the path of {spec.pair.target} {reason}: {spec.directory}."
        f" Correct it: claude-comms register-module {spec.pair.target} --path DIR",
        backend=backend,
    )

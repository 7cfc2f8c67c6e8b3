"""Which files stay: a session that a handle names; none that was replaced, none that nobody was told of."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from claude_code_support import Talk

from claude_comms.background.backends.claude_runtime.workspace import Workspace
from claude_comms.errors import TurnFailedError
from claude_comms.testing import Answer, Fault
from claude_comms.testing._wire import Exchange, Step, error_response, healthy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from claude_comms.background.backends.claude_code import ClaudeCodeBackend
    from claude_comms.background.backends.claude_code._session import ClaudeCodeSession
    from claude_comms.testing import LoopbackAPI

pytestmark = pytest.mark.anyio


def sessions(backend: ClaudeCodeBackend) -> set[str]:
    return {path.stem for path in (backend.workspace.config / "projects").glob("*/*")}


def session_id(talk: Talk) -> str:
    assert talk.handle is not None
    return talk.handle.partition("@")[0]


def refusing(refused: str) -> Fault:
    """The API refuses what that session sends, and answers every other one."""

    def steps(exchange: Exchange) -> Iterator[Step]:
        if refused in str(exchange.body.get("metadata")):
            yield from error_response(400, "messages.1.content.0: thinking blocks cannot be modified", "req_1")
        else:
            yield from healthy(exchange)

    return Fault("refusing", steps)


async def test_a_session_that_was_replaced_is_deleted_with_the_first_complete_answer_of_the_new_one(
    talk: Talk, backend: ClaudeCodeBackend, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    old = session_id(talk)
    [transcript] = (backend.workspace.config / "projects").glob("*/*.jsonl")
    (transcript.with_suffix("") / "tool-results").mkdir(parents=True)
    api.fail(refusing(old), 50)
    assert (await talk.ask("two")).rebuilt
    assert session_id(talk) != old
    assert sessions(backend) == {session_id(talk)}


async def test_a_session_that_was_to_be_replaced_stays_while_the_new_one_has_no_answer(
    talk: Talk, backend: ClaudeCodeBackend, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    old = session_id(talk)
    api.fail(Fault.status(400), 50)
    with pytest.raises(TurnFailedError):
        await talk.ask("two")
    await session.close()
    assert sessions(backend) == {old}


async def test_a_session_whose_first_turn_failed_is_deleted_with_its_process(
    talk: Talk, backend: ClaudeCodeBackend, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    for question in ("one", "another"):
        api.answer(Answer("cut", stop_reason="max_tokens"))
        with pytest.raises(TurnFailedError):
            await Talk(session).ask(question)
    assert len(sessions(backend)) == 2
    await session.rest()
    assert sessions(backend) == set()
    await talk.ask("one")
    await session.rest()
    assert sessions(backend) == {session_id(talk)}


async def test_sessions_built_anew_for_turns_that_fail_do_not_pile_up(
    talk: Talk, backend: ClaudeCodeBackend, session: ClaudeCodeSession, api: LoopbackAPI
) -> None:
    await talk.ask("one")
    talk.handle = None
    for _ in range(3):
        api.answer(Answer("cut", stop_reason="max_tokens"))
        with pytest.raises(TurnFailedError):
            await talk.ask("two")
    assert len(sessions(backend)) == 2  # the first, which a handle names, and the warm one
    await session.close()
    assert len(sessions(backend)) == 1


def lease_files(home: Path) -> set[str]:
    return {path.stem for path in (home / "claude-code" / "leases").iterdir()}


def test_leases_that_nobody_has_held_for_an_hour_are_swept_and_no_other(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.open()
    leases = {name: workspace.lease(name) for name in ("held", "old", "young")}
    assert all(lease.take() for lease in leases.values())
    leases["old"].release()
    leases["young"].release()
    long_ago = time.time() - 7200
    for name in ("held", "old"):
        os.utime(tmp_path / "claude-code" / "leases" / f"{name}.lock", (long_ago, long_ago))
    Workspace(tmp_path).open()
    assert lease_files(tmp_path) == {"held", "young"}
    assert not Workspace(tmp_path).lease("held").take()
    assert Workspace(tmp_path).lease("old").take()


async def test_what_dead_processes_left_is_swept_from_time_to_time_when_a_process_starts(
    talk: Talk, backend: ClaudeCodeBackend, session: ClaudeCodeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = backend.workspace.config.parent / "scratch" / "not-a-process"
    left.mkdir()
    await talk.ask("one")
    assert left.exists()  # it has just been swept, when the session was opened
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 601)
    await session.rest()
    await talk.ask("two")
    assert not left.exists()


async def test_opening_many_sessions_sweeps_once(
    backend: ClaudeCodeBackend, session: ClaudeCodeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[float] = []
    monkeypatch.setattr(backend.workspace._leases, "sweep", lambda: swept.append(1))
    for _ in range(3):
        await backend.open(replace(session._spec))
    assert swept == []

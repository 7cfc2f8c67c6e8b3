"""A conversation's session handed to a person: an interactive Claude Code in this terminal, and what came of it.

It goes on in a branch of its own, whose lease this process holds: the instance's process may keep its session warm
meanwhile, and what it holds is the beginning of the branch. Nothing can be lost by two processes writing one file.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

from claude_comms.background.backends.claude_code._launch import Launch
from claude_comms.background.backends.claude_runtime.place import new_session_id
from claude_comms.background.backends.claude_runtime.transcript import (
    branch_off,
    find_transcript,
    recalls,
    rows_since,
    write_transcript,
)
from claude_comms.errors import BackendUnavailableError
from claude_comms.files import write_private
from claude_comms.types import CLAUDE_CODE, TerminalTurn, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from claude_comms.background.backends.claude_code._session import Starter
    from claude_comms.background.backends.claude_runtime.confinement import Confinement
    from claude_comms.types import InstanceSpec, TurnRequest

__all__ = ["InteractiveSession", "turns_in"]

_TERMINAL = ("TERM", "COLORTERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "NO_COLOR", "COLUMNS", "LINES")
"""What a program on a terminal must know beside the usual variables."""
_COMMANDS = ("<command-", "<local-command-", "<bash-", "[Request interrupted")
"""How rows begin that a person has not said to the model."""
_WHOLE = ("end_turn", "stop_sequence")


class InteractiveSession:
    """Use it as a context manager: `run` it, then read its `turns`. At its end its scratch files and lease go."""

    def __init__(self, starter: Starter, spec: InstanceSpec, confinement: Confinement, request: TurnRequest) -> None:
        workspace = starter.workspace
        self._config = workspace.config
        self._scratch = workspace.scratch()
        self._directory = spec.directory or self._scratch.empty
        self._known: set[str] = set()
        self._session_id, transcript = self._branch(request, starter.version)
        self._lease = workspace.lease(self._session_id)
        if not self._lease.take():  # a fresh id: nobody can have it
            raise BackendUnavailableError("a new session's lease is taken. Try again.", backend=CLAUDE_CODE)
        self._request = request
        self._environment = _environment(starter.environment(self._scratch, request.max_output_tokens))
        self._launch = Launch(
            binary=starter.binary,
            directory=self._directory,
            environment=self._environment,
            scratch=self._scratch,
            system=request.prompt.system_text,
            model=request.model,
            confinement=confinement,
            max_output_tokens=request.max_output_tokens,
            session_id=self._session_id,
            resume=transcript,
        )

    def run(self) -> int:
        """Run it in this terminal until the person leaves; its exit code. Ctrl-C is the person's, and its own."""
        self._launch.write_files()
        self._launch.write_turn(self._request)
        _skip_introduction(self._config)
        before = signal.getsignal(signal.SIGINT)
        with subprocess.Popen(  # noqa: S603 - the user's own Claude Code
            self._launch.interactive_argv(), cwd=self._directory, env=dict(self._environment)
        ) as process:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                return process.wait()
            finally:
                signal.signal(signal.SIGINT, before)
                if process.poll() is None:
                    process.terminate()

    def turns(self) -> list[TerminalTurn]:
        """The whole turns that were had in it, oldest first."""
        transcript = find_transcript(self._config, self._session_id)
        return [] if transcript is None else turns_in(rows_since(transcript, self._known), self._session_id)

    def close(self) -> None:
        """Remove the scratch files and give up the lease. May be called twice."""
        self._scratch.remove()
        self._lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _branch(self, request: TurnRequest, version: str) -> tuple[str, Path | None]:
        """The new session's id, and its transcript where it goes on from something."""
        session_id, _, row = (request.session_handle or "").partition("@")
        history, fresh = request.prompt.history, new_session_id()
        old = find_transcript(self._config, session_id) if session_id and row else None
        if old is not None and recalls(old, row, history):
            known = branch_off(old, row, fresh)
            if known is not None:
                self._known = known
                return fresh, old.with_name(f"{fresh}.jsonl")
        if not history:
            return fresh, None
        written = write_transcript(self._config, self._directory, history, model=request.model, version=version)
        transcript = find_transcript(self._config, written)
        if transcript is not None:
            self._known = {str(row["uuid"]) for row in rows_since(transcript, ())}
        return written, transcript


def turns_in(rows: Iterable[Mapping[str, Any]], session_id: str) -> list[TerminalTurn]:
    """The questions among `rows` that have a whole answer. Commands, and turns that were interrupted, are left out."""
    found: list[TerminalTurn] = []
    under_way: list[Mapping[str, Any]] = []
    for row in rows:
        if row.get("type") == "user" and _typed(row):
            found += _turn(under_way, session_id)
            under_way = [row]
        elif row.get("type") == "assistant" and under_way:
            under_way.append(row)
    return found + _turn(under_way, session_id)


def _turn(rows: list[Mapping[str, Any]], session_id: str) -> list[TerminalTurn]:
    """The turn that `rows` are, a question and rows of answers; none where it has no whole answer."""
    if len(rows) < 2:
        return []
    question, *said = rows
    last: Mapping[str, Any] = said[-1]["message"]
    text = "".join(_text(row) for row in said)
    if not text or last.get("stop_reason") not in _WHOLE:
        return []
    return [
        TerminalTurn(
            question=_text(question),
            answer=text,
            model=str(last.get("model", "")),
            stop_reason=str(last["stop_reason"]),
            usage=_spent(said),
            handle=f"{session_id}@{said[-1]['uuid']}",
        )
    ]


def _typed(row: Mapping[str, Any]) -> bool:
    return not row.get("isMeta") and bool(text := _text(row).strip()) and not text.startswith(_COMMANDS)


def _text(row: Mapping[str, Any]) -> str:
    content = row.get("message", {}).get("content", "")
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block.get("type") == "text")


def _spent(rows: Iterable[Mapping[str, Any]]) -> Usage:
    """What the messages of an answer took. Each block of a message is a row, and each says the message's usage."""
    messages: dict[str, Mapping[str, Any]] = {
        str(row["message"].get("id")): row["message"].get("usage") or {} for row in rows
    }
    total = Usage(cost_usd=0.0)
    for usage in messages.values():
        total += Usage(
            input_tokens=usage.get("input_tokens") or 0,
            output_tokens=usage.get("output_tokens") or 0,
            cache_read_tokens=usage.get("cache_read_input_tokens") or 0,
            cache_write_tokens=usage.get("cache_creation_input_tokens") or 0,
            cost_usd=0.0,
        )
    # What it costs is for whoever stores it to say: Claude Code writes down tokens only.
    return replace(total, cost_usd=None)


def _environment(usual: Mapping[str, str]) -> dict[str, str]:
    """That of any process of ours, for one that is on a terminal and not the SDK's."""
    terminal = {name: os.environ[name] for name in _TERMINAL if os.environ.get(name)}
    environment = {**usual, **terminal, "CLAUDE_CODE_ENTRYPOINT": "cli"}
    environment.pop("CLAUDE_CODE_SDK_READS_SESSION_STATE", None)
    return environment


def _skip_introduction(config: Path) -> None:
    """Claude Code introduces itself in a new configuration directory, and for that calls home first."""
    file = config / ".claude.json"
    try:
        known: object = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = {}
    except (OSError, ValueError):
        return  # not ours to mend
    if isinstance(known, dict) and "hasCompletedOnboarding" not in known:
        write_private(file, json.dumps({**cast("dict[str, Any]", known), "hasCompletedOnboarding": True}))

"""``attach-instance``: an instance in this terminal, and back again at its end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._access import managing
from claude_comms.cli._progress import Progress
from claude_comms.cli._wording import plural
from claude_comms.errors import ClaudeCommsError, InstanceStateError
from claude_comms.types import CLAUDE_CODE, InstanceState

if TYPE_CHECKING:
    from claude_comms.communicator import InstanceManager
    from claude_comms.types import InstanceInfo

__all__ = ["attach"]

_LOOKS_EVERY_S = 0.3
_ENDED = (InstanceState.STOPPED, InstanceState.FAILED)


def attach(wanted: str, *, no_daemon: bool) -> None:
    """Hand the instance that `wanted` names to whoever sits at this terminal, until they leave."""
    if not (console.is_terminal(sys.stdin) and console.is_terminal(sys.stdout)):
        raise typer.TyperException(
            'attach-instance needs a terminal, for somebody to sit at. Elsewhere: claude-comms query-instance ID "..."'
        )
    with managing(no_daemon=no_daemon) as instances:
        info = instances.get(wanted)
        if info.state in _ENDED:
            raise InstanceStateError(
                f"instance {info.instance_id} is {info.state}. Its conversation goes on: claude-comms"
                f' continue-conversation {info.thread_id or "ID"} "..."',
                state=str(info.state),
                wanted="attach",
                instance_id=info.instance_id,
            )
        if info.backend == CLAUDE_CODE:
            _take_over(instances, info)
        else:
            _chat(instances, info)


def _chat(instances: InstanceManager, info: InstanceInfo) -> None:
    """Questions and answers, line by line."""
    from importlib import import_module

    from claude_comms.cli._interrupted import Interrupted
    from claude_comms.cli._stream import show_turn

    import_module("readline")  # `input` can be edited from now on
    console.note(f"{info.source} → {info.target} · {info.backend}. An empty line, or Ctrl-D, ends it.")
    while True:
        try:
            prompt = input(f"{info.source}> ").strip()
        except EOFError:
            console.result()
            return
        if not prompt:
            return
        try:
            show_turn(
                instances.stream(info.instance_id, prompt), info.target, structured=False, as_json=False, go_on=""
            )
        except (ClaudeCommsError, Interrupted) as error:
            console.problem(str(error))


def _take_over(instances: InstanceManager, info: InstanceInfo) -> None:
    """Pause the instance, let an interactive Claude Code go on with its session, and resume it."""
    from claude_comms.cli._handover import handed_over

    was_paused = info.state is InstanceState.PAUSED
    if not was_paused:
        _pause(instances, info)
    try:
        turns, thread_id = handed_over(info)
    finally:
        if not was_paused:
            instances.resume(info.instance_id)
    kept = f"{plural(turns, 'turn')} stored in {thread_id}" if turns else "nothing was asked"
    state = "still paused" if was_paused else "back at work"
    console.note(f"{info.name or info.instance_id} is {state}; {kept}.")
    if turns and info.thread_id is None:
        console.note(f'It held no conversation; go on: claude-comms continue-conversation {thread_id} "..."')


def _pause(instances: InstanceManager, info: InstanceInfo) -> None:
    """Wait until it answers no more. Given up with Ctrl-C, it is as it was before."""
    paused = instances.pause(info.instance_id)
    try:
        with Progress(f"waiting until {info.name or info.instance_id} has answered"):
            while paused.state is InstanceState.BUSY:
                time.sleep(_LOOKS_EVERY_S)
                paused = instances.get(info.instance_id)
    except BaseException:
        instances.resume(info.instance_id)
        raise

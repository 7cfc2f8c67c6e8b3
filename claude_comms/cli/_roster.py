"""Instances as a list, watched or not, and what steers one."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._access import managing, told_by_daemon
from claude_comms.cli._reader import while_read
from claude_comms.cli._short_ids import short_ids
from claude_comms.cli._wording import ago, memory, plural
from claude_comms.settings import Settings
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.communicator import InstanceManager
    from claude_comms.types import InstanceInfo

__all__ = ["show_instances", "steer", "watch_instances"]

_LOOKS_EVERY_S = 1.0
_ROOM_FOR_ALL = 90
"""Columns."""
_CLEAR = "\x1b[H\x1b[2J"
_CHANGES = ("instance_id", "name", "state", "thread_id", "turns", "waiting", "restarts", "pid", "failure")
"""What makes a list worth showing again; memory and times always change."""


def show_instances(*, check: bool, no_daemon: bool, as_json: bool) -> None:
    """The living instances; with `check`, once each has been asked whether it lives."""
    with managing(no_daemon=no_daemon) as instances:
        found = _found(instances, check=check)
    _show(found, check=check, as_json=as_json)


def watch_instances(*, check: bool, no_daemon: bool, as_json: bool) -> None:
    """The same again at each change, until Ctrl-C."""
    shown: list[list[Any]] | None = None
    with while_read(), managing(no_daemon=no_daemon, watching=True) as instances:
        while True:
            found = _found(instances, check=check)
            now = [[info[name] for name in _CHANGES] for info in found]
            if now != shown:
                if console.is_terminal(sys.stdout) and not as_json:
                    sys.stdout.write(_CLEAR)
                elif shown is not None and not as_json:
                    console.result()
                _show(found, check=check, as_json=as_json)
                sys.stdout.flush()
                shown = now
            time.sleep(_LOOKS_EVERY_S)


def steer(action: str, wanted: str, *, no_daemon: bool, as_json: bool) -> None:
    """``pause``, ``resume``, ``interrupt`` or ``stop`` one instance, and print what it is then."""
    with managing(no_daemon=no_daemon) as instances:
        info: InstanceInfo = getattr(instances, action)(wanted)
    if as_json:
        console.document(info.as_dict())
    else:
        console.result(f"{info.instance_id} is {_state(info, action)}")


def _state(info: InstanceInfo, action: str) -> str:
    if action == "pause" and info.state is InstanceState.BUSY:
        return "busy, and pauses once it has answered"
    if action == "interrupt" and info.state is InstanceState.BUSY:
        return "interrupted"  # it is busy with storing what had come
    return str(info.state)


def _found(instances: InstanceManager, *, check: bool) -> list[InstanceInfo]:
    found = instances.list()
    return _proved(found) if check and found else found


def _proved(found: Sequence[InstanceInfo]) -> list[InstanceInfo]:
    """The same once the pool has had each prove that it lives, with what came of that."""
    health = told_by_daemon(Settings.load(), "/health")
    proofs = {proof["instance_id"]: proof for proof in health["instances"]}
    return [
        replace(info, state=InstanceState(proof["state"]), last_alive_at=_moment(proof["last_alive_at"]))
        for info in found
        if (proof := proofs.get(info.instance_id)) is not None
    ]


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _show(found: Sequence[InstanceInfo], *, check: bool, as_json: bool) -> None:
    if as_json:
        console.document([info.as_dict() for info in found])
    elif found:
        _print(found, check=check)
    else:
        console.note("No instances. Start one: claude-comms start-instance --from SOURCE --to TARGET")


def _print(found: Sequence[InstanceInfo], *, check: bool) -> None:
    """A table of what there is room for: a narrow terminal shows who is where, and how it stands."""
    narrow = console.is_terminal(sys.stdout) and console.width() < _ROOM_FOR_ALL
    columns = [console.Column("ID"), console.Column("NAME", flexible=True), console.Column("FROM → TO", flexible=True)]
    columns += [] if narrow else [console.Column("BACKEND")]
    columns += [console.Column("STATE", flexible=narrow)]
    columns += [] if narrow else [console.Column("TURNS", right=True)]
    columns += [console.Column("ALIVE" if check else "USED")]
    memory_known = not narrow and any(info.rss_bytes is not None for info in found)
    columns += [console.Column("MEMORY", right=True)] if memory_known else []
    rows: list[list[str]] = []
    for short, info in zip(short_ids([info.instance_id for info in found]), found, strict=True):
        row = [short, info.name or "-", f"{info.source} → {info.target}"]
        row += [] if narrow else [info.backend]
        row += [_standing(info)]
        row += [] if narrow else [str(info.turns)]
        row += [ago(info.last_alive_at if check else info.last_used_at)]
        rows.append([*row, memory(info.rss_bytes)] if memory_known else row)
    console.table(columns, rows)
    for info in found:
        if info.failure is not None:
            console.result(f"{info.name or info.instance_id} failed: {info.failure}")


def _standing(info: InstanceInfo) -> str:
    waiting = f", {plural(info.waiting, 'question')} waiting" if info.waiting else ""
    return f"{info.state}{waiting}"

"""``doctor``: what was found, as a list that is read from the top."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._wrapping import hanging
from claude_comms.communicator import create_communicator
from claude_comms.errors import ClaudeCommsError
from claude_comms.settings import Settings
from claude_comms.types import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["examine"]

_SIGNS = {True: "✓", False: "✗", None: "·"}


def examine(*, as_json: bool, ask: bool = False) -> None:
    """Show every finding; exit 1 where one is wrong. With `ask`, one turn is asked, which costs what it costs."""
    checks = _findings(ask=ask)
    if as_json:
        console.document([check.as_dict() for check in checks])
    else:
        _print(checks)
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _findings(*, ask: bool) -> list[Check]:
    """What is found; where it cannot even be looked for, that is the finding."""
    try:
        settings = Settings.load()
    except ClaudeCommsError as error:
        return [Check("settings", ok=False, detail=str(error), hint="correct what is named there")]
    checks = [_settings(settings), _daemon(settings)]
    try:
        with create_communicator(None, settings=settings, use_background=False) as comm:
            return [*checks, *comm.diagnose(ask=ask)]
    except ClaudeCommsError as error:
        return [*checks, Check("store", ok=False, detail=str(error))]


def _settings(settings: Settings) -> Check:
    file = settings.home / "config.toml"
    where = str(file) if file.exists() else f"no {file}"
    changed = [name for name in type(settings).model_fields if settings.origin(name) != "default"]
    return Check("settings", ok=True, detail=f"{where}; set: {', '.join(changed) or 'nothing, all defaults'}")


def _daemon(settings: Settings) -> Check:
    """Whether a daemon runs, answers, and is of this version. That none runs is no fault."""
    from claude_comms import daemon

    started = time.perf_counter()
    try:
        found = daemon.status(settings)
    except ClaudeCommsError as error:
        return Check("daemon", ok=False, detail=str(error))
    if not found["running"]:
        return Check("daemon", None, "not running", hint="it is started when it is needed")
    took_ms = round((time.perf_counter() - started) * 1000, 3)
    if not found.get("responding", True):
        restart = "claude-comms daemon restart"
        return Check("daemon", ok=False, detail=f"pid {found['pid']} does not answer", hint=restart)
    own = daemon.own_version()
    if found["version"] != own:
        detail = f"pid {found['pid']} is of version {found['version']}, this is {own}"
        return Check("daemon", ok=False, detail=detail, hint="claude-comms daemon restart")
    where = found["socket"] + (f" and {found['listen']}" if found["listen"] else "")
    return Check("daemon", ok=True, detail=f"pid {found['pid']}, version {own}, at {where}", duration_ms=took_ms)


def _print(checks: Sequence[Check]) -> None:
    column = max(len(check.name) for check in checks) + 2
    for check in checks:
        took = f" ({check.duration_ms:.1f} ms)" if check.duration_ms is not None else ""
        hint = f"\n{check.hint}" if check.hint and check.ok is not True else ""
        console.result(hanging(f"{_SIGNS[check.ok]} {check.name:{column}}", f"{check.detail}{took}{hint}", breaks=True))
    wrong = sum(check.ok is False for check in checks)
    console.note(f"{wrong} to mend, marked {_SIGNS[False]}" if wrong else "Nothing is wrong.")

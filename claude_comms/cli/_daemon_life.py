"""``daemon start``, ``stop``, ``restart``, ``status`` and ``run``."""

from __future__ import annotations

import gc
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._wording import local_time
from claude_comms.cli._wrapping import hanging
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["restart", "run", "show_status", "start", "stop"]

_SHOWN = ("pid", "version", "socket", "listen", "token_file", "log_file")
_USUAL_THRESHOLD = (700, 10, 10)
"""Python's own; a short command has it look for garbage less often."""
_COUNTED = ("turns_running", "connections")


def start(listen: str | None, *, as_json: bool) -> None:
    """Have a daemon running, and listening on `listen` where that is given."""
    from claude_comms import daemon

    settings = Settings.load()
    was_running = daemon.find(settings, patient=True) is not None
    daemon.start(settings, listen=listen)
    told = "was running" if was_running else "runs"
    _tell(daemon.status(settings), f"The daemon {told}.", as_json=as_json)


def stop(drain_s: float | None, *, as_json: bool) -> None:
    """Have none running."""
    from claude_comms import daemon

    settings = Settings.load()
    was_running = daemon.status(settings)["running"]
    if was_running:
        console.note("Stopping the daemon; running turns may finish first.")
    daemon.stop(settings, drain_s=drain_s)
    if as_json:
        console.document({"running": False, "stopped": was_running})
    else:
        console.result("The daemon has stopped." if was_running else "The daemon was not running.")


def restart(drain_s: float | None, *, as_json: bool) -> None:
    """End the one that runs, and start one that listens where that did."""
    from claude_comms import daemon

    settings = Settings.load()
    before = daemon.status(settings)
    if before["running"]:
        console.note("Stopping the daemon; running turns may finish first.")
        daemon.stop(settings, drain_s=drain_s)
    daemon.start(settings, listen=before["listen"])
    _tell(daemon.status(settings), "The daemon runs.", as_json=as_json)


def show_status(*, as_json: bool) -> None:
    """What is known of the daemon; exit 1 where none runs."""
    from claude_comms import daemon

    found = daemon.status(Settings.load())
    if as_json:
        console.document(found)
    elif found["running"]:
        _print(found)
    else:
        console.result("The daemon is not running.")
        console.note("start it: claude-comms daemon start")
    if not found["running"]:
        raise typer.Exit(1)


def run(listen: str | None, *, as_json: bool) -> None:
    """Be the daemon until it is stopped."""
    from claude_comms import daemon
    from claude_comms.plugin import MCP_PATH, McpApp

    gc.set_threshold(*_USUAL_THRESHOLD)  # this process stays
    settings = Settings.load()
    code = daemon.run(settings, listen=listen, extra_apps={MCP_PATH: McpApp(settings)})
    if as_json and not code:
        console.document({"running": False, "stopped": True})
    if code:
        raise typer.Exit(code)


def _tell(found: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        console.document(found)
    else:
        console.result(text)
        _print(found)


def _print(found: Mapping[str, Any]) -> None:
    """What matters to people, and anything that is wrong."""
    rows = [(name.replace("_", " "), str(found[name])) for name in _SHOWN if found.get(name) is not None]
    if found.get("started_at"):
        rows.append(("started", local_time(datetime.fromisoformat(found["started_at"]))))
    rows += [(name.replace("_", " "), str(found[name])) for name in _COUNTED if found.get(name)]
    if found.get("draining"):
        rows.append(("draining", "it finishes what runs, and takes nothing new"))
    if found.get("problem"):
        rows.append(("problem", str(found["problem"])))
    column = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        console.result(hanging(f"{name:{column}}", text))

"""``install claude-code``: the change to Claude Code's configuration shown, agreed to, and made; or undone."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._agreement import agreed
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.plugin.registration import Change, Scope

__all__ = ["change"]


def change(scope: Scope, *, remove: bool, yes: bool, as_json: bool) -> None:
    """Have the MCP server registered with Claude Code, or with `remove` not."""
    from claude_comms.plugin.registration import planned

    plan = planned(Settings.load(), scope, Path.cwd(), remove=remove)
    if plan.needed:
        _show(plan)
        agreed("Remove it?" if remove else "Write it?", yes=yes)
        plan.apply()
    if as_json:
        console.document(
            {
                "client": "claude-code",
                "scope": plan.scope,
                "path": str(plan.path),
                "installed": not remove,
                "changed": plan.needed,
                "server": plan.after or plan.before,
            }
        )
    else:
        _tell(plan)


def _show(plan: Change) -> None:
    if plan.after is None:
        console.note(f"The MCP server claude-comms would be taken out of {plan.path}.")
    else:
        if plan.before is not None:
            console.note(f"In {plan.path} this would be taken out:\n\n{_text(plan.before)}\n")
        console.note(f"In {plan.path} this would be added:\n\n{_text(plan.after)}\n")
    for step in plan.steps():
        console.note(f"by: {shlex.join(step)}")


def _text(definition: Mapping[str, Any]) -> str:
    return json.dumps({"mcpServers": {"claude-comms": definition}}, indent=2)


def _tell(plan: Change) -> None:
    if plan.after is None:
        console.result(f"claude-comms is no longer in {plan.path}" if plan.needed else f"It is not in {plan.path}")
        return
    console.result(f"claude-comms is in {plan.path}" if plan.needed else f"It is in {plan.path} already")
    if plan.scope == "project":
        console.note("Claude Code asks for your approval of the project's servers when it starts here next.")
    console.note(f"undo: claude-comms install claude-code --scope {plan.scope} --remove")

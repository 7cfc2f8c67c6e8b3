"""``install bridge``: the Node bridge put into the home, or taken out; shown and agreed to first."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from claude_comms.cli import _console as console
from claude_comms.cli._agreement import agreed
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from claude_comms.background.backends.mcp_bridge.installation import Change

__all__ = ["change_bridge"]


def change_bridge(*, remove: bool, yes: bool, as_json: bool) -> None:
    """Have the bridge of this version in the home, or with `remove` not."""
    from claude_comms.background.backends.mcp_bridge.installation import planned

    plan = planned(Settings.load(), remove=remove)
    if plan.needed:
        _show(plan)
        agreed("Remove it?" if remove else "Install it?", yes=yes)
        plan.apply()
    if as_json:
        console.document(
            {
                "client": "bridge",
                "path": str(plan.directory),
                "version": plan.version,
                "installed": not remove,
                "changed": plan.needed,
                "node": None if plan.node is None else str(plan.node),
            }
        )
    else:
        _tell(plan)


def _show(plan: Change) -> None:
    if plan.remove:
        console.note(f"{plan.directory} would be deleted.")
        return
    console.note(f"The bridge {plan.version} would be copied to {plan.directory}, and its packages fetched there by")
    console.note(f"  {shlex.join(plan.command)}")
    console.note(f"Node: {plan.node}")
    if plan.with_claude_code:
        console.note("There is no Claude Code here: npm brings one, some 360 MB.")


def _tell(plan: Change) -> None:
    if plan.remove:
        console.result(f"The bridge is no longer at {plan.directory}" if plan.needed else "It is not installed")
        return
    where = f"{plan.version} is at {plan.directory}"
    console.result(f"The bridge {where}" if plan.needed else f"The bridge {where} already")
    console.note("use it: --backend bridge; undo: claude-comms install bridge --remove")

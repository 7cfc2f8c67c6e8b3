"""What a process is started with: its command line, which tells nothing, and the files that tell the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from claude_comms.background.backends.claude_runtime.launch import LaunchFacts
from claude_comms.background.backends.claude_runtime.secret_names import deny_rules
from claude_comms.files import write_private
from claude_comms.turn_file import write_turn_file

if TYPE_CHECKING:
    from claude_comms.types import TurnRequest

__all__ = ["Launch"]


class Launch(LaunchFacts):
    """All that is fixed when a process starts, and how that is said on its command line."""

    __slots__ = ()

    def argv(self) -> list[str]:
        """The command line. It holds no prompt and no secret: every user of the machine can read it."""
        return [
            str(self.binary),
            *("--output-format", "stream-json", "--verbose", "--input-format", "stream-json"),
            *("--include-partial-messages", "--permission-prompt-tool", "stdio"),
            *self._confined(),
        ]

    def interactive_argv(self) -> list[str]:
        """The same for a process that speaks to a person at a terminal, who is asked what is not granted."""
        return [str(self.binary), *self._confined()]

    def _confined(self) -> list[str]:
        """What it may do, to whom it speaks as whom, and where it goes on."""
        session = [f"--session-id={self.session_id}"] if self.resume is None else [f"--resume={self.resume}"]
        if self.resume is not None and self.position is not None:
            session.append(f"--resume-session-at={self.position}")
        return [
            *("--permission-mode", "manual"),
            *("--setting-sources=", "--strict-mcp-config", "--restricted"),
            *("--system-prompt-file", str(self.scratch.system_prompt), "--system-prompt-snapshot", "off"),
            *("--settings", str(self.scratch.settings)),
            *("--tools", ",".join(self.confinement.tools)),
            *(word for path in self.confinement.directories for word in ("--add-dir", str(path))),
            *(("--mcp-config", str(self.scratch.mcp_servers)) if self.confinement.servers else ()),
            *("--model", self.model),
            *session,
        ]

    def write_files(self) -> None:
        """Write what `argv` points to, for the owner's eyes alone: system prompt, deny rules, MCP servers."""
        write_private(self.scratch.system_prompt, self.system)
        write_private(self.scratch.settings, json.dumps({"permissions": {"deny": deny_rules()}}))
        if self.confinement.servers:
            servers = self.scratch.told_servers(self.confinement.servers)
            write_private(self.scratch.mcp_servers, json.dumps({"mcpServers": servers}))

    def write_turn(self, request: TurnRequest) -> None:
        """Tell the MCP servers which turn is about to run, should they be the ones that ask other modules."""
        if self.confinement.servers:
            write_turn_file(self.scratch.turn, request)

"""Where Claude Code's files live below the home, and what a process of ours is allowed to know."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.background.backends.claude_runtime.leases import Lease, Leases
from claude_comms.background.backends.claude_runtime.orphans import MARK, kill_marked
from claude_comms.background.backends.claude_runtime.transcript import find_transcript
from claude_comms.files import private_dir
from claude_comms.turn_file import TURN_FILE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.mcp_servers import McpServer

__all__ = ["CREDENTIALS", "PASSED_ON", "Scratch", "Workspace"]

CREDENTIALS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
"""The variables that hold a login."""

PASSED_ON = (
    "PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS",
    "ANTHROPIC_BASE_URL", *CREDENTIALS,
)  # fmt: skip
"""The variables that a process inherits. Nothing else of our environment reaches it."""

_SWEEP_EVERY_S = 600.0

_FIXED = {
    "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
    "CLAUDE_CODE_SDK_READS_SESSION_STATE": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE": "1",
    "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
    "CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK": "1",
    "CLAUDE_CODE_NO_MODEL_FALLBACK": "1",
    "CLAUDE_CODE_MAX_RETRIES": "4",
    # With many tools of MCP servers it would offer a search for tools in their place, which is not granted.
    "ENABLE_TOOL_SEARCH": "false",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
}


@dataclass(frozen=True, slots=True)
class Scratch:
    """One process's own files; gone with it."""

    folder: Path

    @property
    def system_prompt(self) -> Path:
        """The file with the system prompt."""
        return self.folder / "system-prompt.txt"

    @property
    def settings(self) -> Path:
        """The file with the deny rules."""
        return self.folder / "settings.json"

    @property
    def mcp_servers(self) -> Path:
        """The file with the MCP servers and their secrets."""
        return self.folder / "mcp-servers.json"

    @property
    def turn(self) -> Path:
        """The file that tells the MCP servers which turn runs; see `claude_comms.turn_file`."""
        return self.folder / "turn.json"

    @property
    def token(self) -> Path:
        """The file with what lets us, and nobody else, talk to a bridge process."""
        return self.folder / "token"

    @property
    def home(self) -> Path:
        """The home that all of this is below: ``HOME/claude-code/scratch/FOLDER``."""
        return self.folder.parents[2]

    @property
    def unanswered(self) -> Path:
        """The file with the ids of the process's sessions that no handle names yet; for whoever sweeps."""
        return self.folder / "unanswered.txt"

    @property
    def empty(self) -> Path:
        """Where a process sits whose module has no path."""
        return private_dir(self.folder / "empty")

    def told_servers(self, servers: Mapping[str, McpServer]) -> dict[str, dict[str, Any]]:
        """The MCP servers of the process as Claude Code's configuration has them: without our login, and with what
        they need should they be the ones that ask other modules.
        """
        given = {"CLAUDE_COMMS_HOME": str(self.home), TURN_FILE_VARIABLE: str(self.turn)}
        return {name: server.told(withheld=CREDENTIALS, given=given) for name, server in servers.items()}

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Workspace:
    """``claude-code/`` in the home: configuration and sessions, scratch files, leases. Private to its owner."""

    def __init__(self, home: Path) -> None:
        self._root = home / "claude-code"
        self._leases = Leases(self._root / "leases")
        self._swept_at: float | None = None

    @property
    def config(self) -> Path:
        """CLAUDE_CONFIG_DIR: sessions, and the login of ``claude /login`` when it was run with it."""
        return self._root / "config"

    @property
    def credentials(self) -> Path:
        """The file that a login leaves."""
        return self.config / ".credentials.json"

    def open(self) -> None:
        """Make the directories, and sweep them if that is due."""
        for name in (".", "config", "home", "leases", "scratch"):
            private_dir(self._root / name)
        if self.sweep_due:
            self.sweep()

    @property
    def sweep_due(self) -> bool:
        """Whether ten minutes have passed since the last sweep, or there was none."""
        return self._swept_at is None or time.monotonic() - self._swept_at >= _SWEEP_EVERY_S

    def sweep(self) -> None:
        """Remove what processes that are gone have left: their scratch files, what they had started and nobody has
        stopped, and leases. Touches the disk.
        """
        self._swept_at = time.monotonic()
        for folder in (self._root / "scratch").glob("*"):
            owner = folder.name.partition("-")[0]
            if not owner.isdigit() or not _is_running(int(owner)):
                kill_marked(str(folder))
                self._clear(Scratch(folder))
        self._leases.sweep()

    def _clear(self, scratch: Scratch) -> None:
        """Remove the scratch files of a process that was killed, and the sessions that nobody will ask for."""
        with suppress(OSError, UnicodeDecodeError):
            for session_id in scratch.unanswered.read_text("ascii").split():
                self.discard(session_id)
        scratch.remove()

    def scratch(self) -> Scratch:
        """A new directory for one process."""
        return Scratch(private_dir(self._root / "scratch" / f"{os.getpid()}-{secrets.token_hex(4)}"))

    def lease(self, session_id: str) -> Lease:
        """The session's lease, not yet taken."""
        return self._leases.of(session_id)

    def discard(self, session_id: str) -> None:
        """Delete a session for which no handle is, or soon will be, in any store; not while somebody uses it."""
        transcript = find_transcript(self.config, session_id)
        if transcript is None:
            return
        lease = self.lease(session_id)
        try:
            if lease.take():
                transcript.unlink(missing_ok=True)
                shutil.rmtree(transcript.with_suffix(""), ignore_errors=True)
        finally:
            lease.release()

    def environment(
        self, ambient: Mapping[str, str], scratch: Scratch, *, given: Mapping[str, str], max_output_tokens: int
    ) -> dict[str, str]:
        """A process's whole environment. `given` wins over what is passed on from `ambient`."""
        passed = {name: ambient[name] for name in PASSED_ON if ambient.get(name)}
        key = {**passed, **given}.get("ANTHROPIC_API_KEY")
        return {
            "PATH": os.defpath,
            **passed,
            **given,
            **_FIXED,
            # With it the first system block differs between sessions, and no prompt cache is shared.
            **({"CLAUDE_CODE_ATTRIBUTION_HEADER": "0"} if key else {}),
            "HOME": str(self._root / "home"),
            "CLAUDE_CONFIG_DIR": str(self.config),
            "CLAUDE_CODE_TMPDIR": str(scratch.folder),
            "TMPDIR": str(scratch.folder),
            MARK: str(scratch.folder),
            "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(max_output_tokens),
        }


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

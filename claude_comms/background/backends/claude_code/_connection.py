"""One warm Claude Code process with the Agent SDK's client over it, holding one session at a time."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ClaudeSDKError,
    HookMatcher,
    PermissionResultAllow,
    PermissionResultDeny,
    ResultMessage,
)

from claude_comms.background.backends.claude_code._transport import ProcessTransport
from claude_comms.background.backends.claude_code._usage import UsageMeter
from claude_comms.background.backends.claude_runtime.process import LaunchedProcess
from claude_comms.background.backends.claude_runtime.tenure import Tenure
from claude_comms.errors import (
    BackendCrashedError,
    BackendError,
    BackendProtocolError,
    BackendUnavailableError,
    ClaudeCommsError,
)
from claude_comms.text import shorten
from claude_comms.types import CLAUDE_CODE

if TYPE_CHECKING:
    from claude_agent_sdk import ToolPermissionContext

    from claude_comms.background.backends.claude_code._launch import Launch
    from claude_comms.background.backends.claude_runtime.confinement import Decision
    from claude_comms.background.backends.claude_runtime.leases import Lease
    from claude_comms.background.backends.claude_runtime.workspace import Workspace
    from claude_comms.types import TurnRequest

__all__ = ["Connection"]

_CONTROL_S = 0.5
_CLEAR_S = 10.0
_SERVERS_TICK_S = 0.05

# Without a handler the SDK's reports of what we raise ourselves would reach the user's terminal.
logging.getLogger("claude_agent_sdk").addHandler(logging.NullHandler())


class Connection:
    """A started process and the session it holds. One task asks; `close` may be called twice.

    `lease` is taken, and `kept` says whether a handle of the session is out in the world; see `Tenure`.
    """

    def __init__(self, launch: Launch, workspace: Workspace, lease: Lease, *, kept: bool) -> None:
        self.launch = launch
        self.model = launch.model
        self.meter = UsageMeter(resumed=launch.resume is not None)
        self.used = launch.resume is not None
        """Whether the session holds anything yet."""
        self.rulings: dict[str, Decision] = {}
        """What was decided in this turn, by the call's id: on the arguments as Claude Code will use them."""
        self._tenure = Tenure(
            workspace, launch.scratch, lease, session_id=launch.session_id, position=launch.position, kept=kept
        )
        self._process = LaunchedProcess()
        self._transport = ProcessTransport(self._process, launch.argv(), launch.directory, launch.environment)
        self._client = ClaudeSDKClient(self._options(), self._transport)
        self._messages: Any = None
        self._wait: anyio.CancelScope | None = None
        self._starting: anyio.CancelScope | None = None
        self._leaving = False

    def _options(self) -> ClaudeAgentOptions:
        return ClaudeAgentOptions(
            hooks={"PreToolUse": [HookMatcher(hooks=[self._before_tool], on_failure="block")]},
            can_use_tool=self._may_use,
            verbatim_prompts=True,
        )

    async def _before_tool(self, data: Any, use_id: str | None, _context: Any) -> Any:
        decision = self._rule(use_id, str(data.get("tool_name")), data.get("tool_input") or {})
        verdict = "allow" if decision.allowed else "deny"
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": verdict,
                "permissionDecisionReason": decision.reason,
            }
        }

    async def _may_use(self, tool: str, arguments: dict[str, Any], context: ToolPermissionContext) -> Any:
        decision = self._rule(context.tool_use_id, tool, arguments)
        return PermissionResultAllow() if decision.allowed else PermissionResultDeny(message=decision.reason)

    def _rule(self, use_id: str | None, tool: str, arguments: Any) -> Decision:
        """Decide, and put it on record."""
        decision = self.launch.confinement.rule(tool, arguments, self.launch.directory)
        if use_id is not None:
            self.rulings[use_id] = decision
        return decision

    # --- life ---

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.alive

    @property
    def quiet_s(self) -> float:
        """Seconds since the process last said anything."""
        return self._process.quiet_s

    async def died(self) -> str | None:
        """Wait for its process's end; how it died, or None where it was stopped."""
        return await self._process.died()

    @property
    def pid(self) -> int | None:
        """The process id of the launcher, the root of the process tree, while it runs."""
        return self._process.pid

    @property
    def last_byte(self) -> float:
        """When the process last said anything, on `anyio.current_time()`'s clock."""
        return self._process.last_byte

    def expect_quiet(self, seconds: float) -> None:
        """Do not count the next `seconds` as silence."""
        if seconds:
            self._process.expect_quiet(seconds)

    @property
    def stderr_tail(self) -> str:
        """The end of what it wrote to stderr."""
        return self._process.stderr_tail

    @property
    def handle(self) -> str:
        """What finds this session again, up to its last complete answer."""
        return self._tenure.handle

    @property
    def gone(self) -> anyio.Event:
        """Set once the process has ended and everything of it was let go of."""
        return self._tenure.gone

    async def start(self, timeout_s: float) -> None:
        """Start the process and shake hands. BackendCrashedError when it dies or does not answer in time.

        However it fails, `close` or `abandon` must follow.
        """
        if self._leaving:
            raise self._process.crashed()
        self.launch.write_files()
        self._tenure.note()
        try:
            with anyio.CancelScope() as self._starting, anyio.fail_after(timeout_s):
                await self._guarded(self._client.connect())
            if self._starting.cancelled_caught:
                raise self._process.crashed()
        except TimeoutError as error:
            await self.close()
            crashed = self._process.crashed()
            crashed.args = (f"Claude Code did not answer within {timeout_s:.0f} s of its start. {crashed.args[0]}",)
            raise crashed from error

    async def reach_servers(self, timeout_s: float) -> None:
        """Wait for the MCP servers that were granted. BackendUnavailableError names one that is not reached in time:
        without it the answer would be a guess.
        """
        waiting = dict.fromkeys(self.launch.confinement.servers, "it did not answer in time")
        with anyio.move_on_after(timeout_s):
            while waiting:
                status = await self._guarded(self._client.get_mcp_status())
                for server in status["mcpServers"]:
                    if server["status"] == "connected":
                        waiting.pop(server["name"], None)
                    elif server["status"] != "pending":
                        raise _unreached(server["name"], str(server.get("error") or server["status"]))
                await anyio.sleep(_SERVERS_TICK_S if waiting else 0)
        for name, reason in waiting.items():
            raise _unreached(name, reason)

    async def prove(self, timeout_s: float) -> None:
        """Return once the process has answered a control request; TimeoutError after `timeout_s`."""
        with anyio.fail_after(timeout_s):
            await self._guarded(self._client.get_mcp_status())

    async def close(self) -> None:
        """Stop the process with all it started, and give up the lease. Bounded.

        For any task of the loop: a `start` that is under way or still to come ends in BackendCrashedError.
        """
        self._leaving = True
        if self._starting is not None:
            self._starting.cancel()  # the SDK would wait on, for an answer of what is gone
        with anyio.CancelScope(shield=True):
            if not self._tenure.hold():
                # Its last words would land in a session that goes on elsewhere.
                await self._process.stop(grace_s=None)
            with suppress(Exception):
                await self._client.disconnect()
            await self._process.stop(grace_s=0)
            await anyio.to_thread.run_sync(self.launch.scratch.remove)
        self._tenure.end()

    def abandon(self) -> None:
        """Let go of everything without waiting."""
        self._leaving = True
        self._process.kill()
        self.launch.scratch.remove()
        self._tenure.end()

    # --- the lease ---

    def hold(self) -> bool:
        """Take the session's lease. See `Tenure.hold`."""
        return self._tenure.hold()

    def release(self) -> None:
        """Give up the lease. See `Tenure.release`."""
        self._tenure.release()

    # --- asking ---

    def suits(self, request: TurnRequest) -> bool:
        """Whether what was fixed when the process started is what the question needs."""
        return self.launch.suits(request)

    async def send(self, text: str, *, model: str) -> None:
        """Put a question, which acts on nothing: no ``@path`` and no ``/command`` in it is looked at."""
        if model != self.model:
            await self._guarded(self._client.set_model(model))
            self.model = model
        self.used = True
        self.rulings.clear()
        self.meter.begin_turn()
        await self._guarded(self._client.query(text))

    async def next_message(self, timeout_s: float) -> object | None:
        """What the process says next; None after `timeout_s` or `wake`."""
        if self._messages is None:
            self._messages = self._client.receive_messages()
        message: object = None
        try:
            with anyio.move_on_after(timeout_s) as self._wait:
                message = await self._guarded(anext(self._messages))
        finally:
            self._wait = None
            if message is None:
                self._messages = None
        return message

    def wake(self) -> None:
        """Let a waiting `next_message` return. For other tasks of the same loop."""
        if self._wait is not None:
            self._wait.cancel()

    async def interrupt(self) -> None:
        """Ask the process to stop its turn; the turn's result follows. Waits at most 0.5 s for the receipt."""
        with anyio.move_on_after(_CONTROL_S):
            await self._guarded(self._client.interrupt())

    def answered(self, position: str | None) -> None:
        """Note that the session ends in a complete answer. See `Tenure.answered`."""
        self._tenure.answered(position)

    async def clear(self) -> bool:
        """Begin a new session in the same process, and hold its lease; False where that did not work."""
        request = {
            "type": "user",
            "message": {"role": "user", "content": "/clear"},
            "parent_tool_use_id": None,
            "session_id": "default",
        }
        result: ResultMessage | None = None
        with anyio.move_on_after(_CLEAR_S), suppress(BackendCrashedError):
            await self._transport.write(json.dumps(request) + "\n")
            while result is None:
                message = await self.next_message(_CLEAR_S)
                result = message if isinstance(message, ResultMessage) else None
        if result is None or result.session_id == self._tenure.session_id or not self._tenure.moved(result.session_id):
            return False
        self.used = False
        self.meter.cleared()
        return True

    async def _guarded(self, awaitable: Any) -> Any:
        """The SDK's call, with its exceptions as ours."""
        try:
            return await awaitable
        except (ClaudeCommsError, TimeoutError):
            raise
        except StopAsyncIteration:
            raise self._process.crashed() from None
        except ClaudeSDKError as error:
            raise BackendProtocolError(
                f"the Agent SDK could not read Claude Code: {error}", backend=CLAUDE_CODE
            ) from error
        except Exception as error:
            if not self._process.alive:
                raise self._process.crashed() from error
            raise BackendError(
                f"Claude Code refused a request: {error}. Ask again.", backend=CLAUDE_CODE, retryable=True
            ) from error


def _unreached(name: str, reason: str) -> BackendUnavailableError:
    return BackendUnavailableError(
        f"the MCP server {name!r}, which was granted, cannot be used: {shorten(reason, 300)}."
        f" Correct [mcp_servers.{name}] in config.toml.",
        backend=CLAUDE_CODE,
    )

"""A running MCP server with the SDK's client over it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from mcp import Client, MCPError
from mcp.shared.message import SessionMessage
from mcp_types import TextContent, jsonrpc_message_adapter

from claude_comms.background.backends.claude_runtime.process import LaunchedProcess
from claude_comms.background.backends.mcp_bridge._stock_failures import failure_of
from claude_comms.errors import BackendError, BackendProtocolError, BackendUnavailableError
from claude_comms.text import shorten
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
    from pathlib import Path

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client import Transport
    from mcp_types import CallToolResult, Tool

__all__ = ["TOOL", "StockConnection"]

TOOL = "claude_code"
_NEEDED = ("prompt", "workFolder")
_MOST_PAGES = 20
_LET_GO_S = 1.0
_LONGEST = 300


class StockConnection:
    """One server process. The client lives in a task of its own: what is called may be cancelled without it.

    `login` is the command that logs Claude Code in, for errors.
    """

    def __init__(self, *, model: str, login: str) -> None:
        self.model = model
        """What Claude Code was told to use."""
        self._login = login
        self._process = LaunchedProcess("claude-code-mcp", backend=BRIDGE)
        self._client: Client | None = None
        self._ready = anyio.Event()
        self._ending = anyio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._calling = False

    # --- life ---

    async def start(
        self, command: Sequence[str], *, directory: Path, environment: Mapping[str, str], within_s: float
    ) -> None:
        """Start the server and see that it offers the tool. BackendUnavailableError where it does not, or does not
        answer in time; other errors of the protocol where it dies or talks nonsense. `stop` it then.
        """
        await self._process.start(command, directory=directory, environment=environment)
        self._task = asyncio.get_running_loop().create_task(self._live())
        with anyio.move_on_after(within_s):
            await self._ready.wait()
        if self._failure is not None:
            raise self._told(self._failure)
        if self._client is None:
            raise BackendUnavailableError(
                f"{command[0]} did not answer as an MCP server within {within_s:.3g} s. Check bridge_command.",
                backend=BRIDGE,
            )

    async def _live(self) -> None:
        """Be the client for as long as the server runs, or until `stop`."""
        try:
            async with Client(self._transport(), cache=None) as client:
                _require_tool(await _tools(client))
                self._client = client
                self._ready.set()
                await self._ending.wait()
        except Exception as error:  # noqa: BLE001  the SDK's own, and groups of them: told by whoever waits
            self._failure = self._failure or _innermost(error)
        finally:
            self._client = None
            self._ready.set()

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._client is not None and self._failure is None and self._process.alive

    @property
    def pid(self) -> int | None:
        """The launcher's process id, while the server runs."""
        return self._process.pid

    @property
    def last_byte(self) -> float:
        """When the server last said anything."""
        return self._process.last_byte

    async def died(self) -> str | None:
        """Wait for its end; how it died, or None where it was stopped."""
        return await self._process.died()

    async def stop(self) -> None:
        """End the server and all that it started, in 3 s at most; whoever waits for an answer gets an error."""
        await self._process.stop(grace_s=None if self._calling else _LET_GO_S / 2)
        self._ending.set()
        if self._task is not None:
            with anyio.CancelScope(shield=True):
                _, left = await asyncio.wait({self._task}, timeout=_LET_GO_S)
                for task in left:
                    task.cancel()

    def abandon(self) -> None:
        """The same where nothing may be awaited any more."""
        self._process.kill()
        if self._task is not None:
            self._task.cancel()

    # --- calls ---

    async def call(self, prompt: str, folder: Path) -> str:
        """The tool's whole answer. Every error is one of ours; a cancelled call still runs there: `stop` it."""
        client = self._client
        if client is None:
            raise self._told(self._failure)
        self._calling = True
        # The session's own method: the client's would ask again where it thinks that helps.
        with self._translated():
            result = await client.session.call_tool(TOOL, {"prompt": prompt, "workFolder": str(folder)})
        self._calling = False
        return self._text(result)

    async def prove(self) -> None:
        """Return once the server has listed its tools again."""
        client = self._client
        if client is None:
            raise self._told(self._failure)
        with self._translated():
            await client.session.list_tools()

    @contextmanager
    def _translated(self) -> Generator[None]:
        """What a request ends in, as our errors."""
        try:
            yield
        except Exception as error:  # the SDK's own, and pydantic's
            raise self._ended(error) from error

    def _ended(self, error: Exception) -> BackendError:
        """`error` as ours; where the server died or talked nonsense, that."""
        if isinstance(self._failure, BackendError) or not isinstance(error, MCPError) or not self._process.alive:
            return self._told(self._failure or error)
        self._calling = False
        return failure_of(error.message, login=self._login)

    def _told(self, error: Exception | None) -> BackendError:
        if isinstance(error, BackendError):
            return error
        if error is None or not self._process.alive:
            return self._process.crashed()
        said = error.message if isinstance(error, MCPError) else f"{type(error).__name__}: {error}"
        return BackendProtocolError(
            f"claude-code-mcp does not keep to the MCP protocol: {shorten(said, _LONGEST)}. Check bridge_command.",
            line=shorten(said, _LONGEST),
            backend=BRIDGE,
        )

    def _text(self, result: CallToolResult) -> str:
        parts = [part.text for part in result.content if isinstance(part, TextContent)]
        text = "".join(parts)
        if result.is_error:
            raise failure_of(text, login=self._login)
        if len(parts) != len(result.content):
            raise BackendProtocolError(
                "claude-code-mcp answered with something that is no text. Check bridge_command.", backend=BRIDGE
            )
        return text

    # --- the wire ---

    def _transport(self) -> Transport:
        return self._streams()

    @asynccontextmanager
    async def _streams(
        self,
    ) -> AsyncGenerator[
        tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]
    ]:
        heard_in, heard = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        spoken, spoken_out = anyio.create_memory_object_stream[SessionMessage](0)
        async with heard_in, heard, spoken, spoken_out, anyio.create_task_group() as tasks:
            tasks.start_soon(self._hear, heard_in)
            tasks.start_soon(self._speak, spoken_out)
            try:
                yield heard, spoken
            finally:
                tasks.cancel_scope.cancel()

    async def _hear(self, heard: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Pass on what the server says. Anything but messages ends the connection: nobody knows what it left out."""
        async with heard:
            try:
                while line := await self._process.read_line():
                    if line.strip():
                        await heard.send(SessionMessage(_message(line)))
            except BackendError as error:
                self._failure = self._failure or error
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _speak(self, spoken: MemoryObjectReceiveStream[SessionMessage]) -> None:
        with suppress(BackendError):  # it is dead: the end of its stdout tells that, and how
            async for message in spoken:
                line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                await self._process.write(line.encode() + b"\n")


def _message(line: bytes) -> Any:
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError as error:
        said = shorten(line.decode("utf-8", "replace"), _LONGEST)
        raise BackendProtocolError(
            f"claude-code-mcp wrote a line that is no message of MCP: {said} Check bridge_command.",
            line=said,
            backend=BRIDGE,
        ) from error


async def _tools(client: Client) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        found |= {tool.name: tool for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _require_tool(tools: Mapping[str, Tool]) -> None:
    wanted = f"{TOOL}{{{', '.join(_NEEDED)}}}"
    if TOOL not in tools:
        offers = shorten(", ".join(sorted(tools)), _LONGEST) or "no tools"
        raise BackendUnavailableError(
            f"the MCP server has no tool {wanted}; it offers {offers}. Check bridge_command.", backend=BRIDGE
        )
    takes: Mapping[str, Any] = tools[TOOL].input_schema.get("properties") or {}
    if missing := [name for name in _NEEDED if name not in takes]:
        raise BackendUnavailableError(
            f"the MCP server's tool {TOOL} does not take {' and '.join(missing)}, which {wanted} needs; it takes"
            f" {shorten(', '.join(takes), _LONGEST) or 'nothing'}. Check bridge_command.",
            backend=BRIDGE,
        )


def _innermost(error: Exception) -> Exception:
    """What a group of errors is about."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]

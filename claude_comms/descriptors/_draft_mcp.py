"""A first descriptor for an MCP server, from the list of its tools. None of them is called."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.descriptors._address import ADDRESS, NO_ADDRESS, shown
from claude_comms.errors import ConfigError, DeadlineExceededError, DescriptorError
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from mcp.client import Transport
    from mcp_types import Tool

    from claude_comms.descriptors._mcp_address import BoundedTransport
    from claude_comms.descriptors._mcp_process import ServerProcess
    from claude_comms.descriptors._model import Capability, ModuleDescriptor

__all__ = ["draft_from_mcp", "inherited_environment"]

_TIMEOUT_S = 30.0
_MAX_BYTES = 4 * 1024 * 1024
_MOST_TOOLS = 500
_MOST_PAGES = 50
_LONGEST_CAPABILITY = 32 * 1024
"""Characters. One with longer schemas goes without them, rather than that others go."""
_EXTRA = "mcp"

_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True, slots=True)
class _Offered:
    """What a server says of itself."""

    name: str = ""
    version: str = ""
    title: str = ""
    instructions: str = ""
    tools: tuple[Tool, ...] = ()
    has_more: bool = False
    """Whether it was going to list more tools, which were not asked for."""


def inherited_environment() -> dict[str, str]:
    """What a server gets of our environment: where things are and how to write, no keys."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def draft_from_mcp(
    name: str,
    *,
    command: Sequence[str] | None = None,
    url: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> ModuleDescriptor:
    """A descriptor named `name` for an MCP server, each of its tools a capability. None of them is called.

    The server is the program that `command` starts and that speaks on its stdio, or stands at the http(s) address
    `url` (streamable HTTP). A program runs with what `inherited_environment` tells, and with `environment` beside it.
    It may take `timeout_s` seconds and say 4 MiB; of its tools, as many stay as a descriptor's file can hold, 500 at
    most, and where that is not all of them, `drafted_from` in the metadata says so.
    ConfigError where it cannot be reached, is no MCP server or says too much, DeadlineExceededError where it takes
    too long; DescriptorError for a bad `name`. Waits; do not call it in an event loop.
    """
    if (command is None) == (url is None) or (command is not None and not command):
        raise ConfigError("give either the command that starts an MCP server, or its url.")
    if url is not None and not ADDRESS.fullmatch(url):
        raise ConfigError(NO_ADDRESS)
    _descriptor(name, _Offered())  # a bad name is told before anything runs
    try:
        import mcp  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as error:
        message = (
            f"importing from MCP servers needs the MCP SDK. Install it: pip install 'claude-module-comms[{_EXTRA}]'"
        )
        raise ConfigError(message) from error
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        if url is not None:
            offered = portal.call(_ask_address, url, timeout_s)
        else:
            own = {**inherited_environment(), **(environment or {})}
            offered = portal.call(_ask_process, list(command or ()), own, timeout_s)
    return _descriptor(name, offered)


# --- asking ------------------------------------------------------------------------------------


async def _ask_process(command: list[str], environment: dict[str, str], timeout_s: float) -> _Offered:
    from claude_comms.descriptors._mcp_process import ServerProcess

    process = ServerProcess(command, environment, _MAX_BYTES)
    process.start()
    try:
        async with _translated(command[0], process, timeout_s):
            return await _ask(process.transport(), timeout_s)
    finally:
        await process.stop()


async def _ask_address(url: str, timeout_s: float) -> _Offered:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    from claude_comms.descriptors._mcp_address import BoundedTransport

    bounded = BoundedTransport(_MAX_BYTES)
    async with (
        _translated(url, bounded, timeout_s),
        httpx2.AsyncClient(transport=bounded, timeout=timeout_s, trust_env=False) as client,
    ):
        return await _ask(streamable_http_client(url, http_client=client), timeout_s)


@asynccontextmanager
async def _translated(server: str, road: ServerProcess | BoundedTransport, timeout_s: float) -> AsyncGenerator[None]:
    """What goes wrong with the server within, told in our words; of an address, no more than errors show."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # the SDK's errors, those of its transports, and groups of them
        reason = _innermost(error)
        address, server = server, shown(server)
        if road.overrun:
            raise ConfigError(f"{server} said more than {_MAX_BYTES // 1024:,} KiB, the most that is read.") from error
        if isinstance(reason, TimeoutError):
            message = f"{server} did not list its tools within {timeout_s:g} s. Check that it is an MCP server."
            raise DeadlineExceededError(message, deadline_s=timeout_s) from error
        said = shorten(str(reason).replace(address, server), 300) or type(reason).__name__
        tail = shorten(getattr(road, "stderr_tail", ""), 500)
        told = f" Its last words: {tail}" if tail else ""
        raise ConfigError(f"{server} gave no list of tools: {said}. Check that it is an MCP server.{told}") from error


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return error  # pyright: ignore[reportUnknownVariableType]


async def _ask(transport: Transport, timeout_s: float) -> _Offered:
    import anyio
    from mcp import Client

    with anyio.fail_after(timeout_s):
        async with Client(transport, cache=None) as client:
            tools, has_more = await _tools(client)
            server = client.server_info
            return _Offered(
                name=server.name if server else "",
                version=server.version if server else "",
                title=(server.title or "") if server else "",
                instructions=client.instructions or "",
                tools=tools,
                has_more=has_more,
            )


async def _tools(client: Any) -> tuple[tuple[Tool, ...], bool]:
    """What it lists, page by page, and whether there was more to come."""
    found: list[Tool] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None or len(found) >= _MOST_TOOLS:
            break
    return tuple(found), cursor is not None


# --- drafting ----------------------------------------------------------------------------------


def _descriptor(name: str, offered: _Offered) -> ModuleDescriptor:
    from claude_comms.text import printable

    said = printable(offered.instructions).strip()
    called = shorten(offered.title or offered.name, 120)
    texts = {
        "version": shorten(offered.version, 60),
        "summary": shorten(said.partition("\n")[0], 200) or f"The MCP server {called or name}.",
        "description": said[:2_000],
    }
    source = f"MCP server {shorten(f'{offered.name} {offered.version}', 200)}".strip()
    fields = {"name": name, **{key: value for key, value in texts.items() if value}}
    return _with_count(fields, source, _capabilities(offered.tools), has_more=offered.has_more)


def _with_count(
    fields: dict[str, Any], source: str, capabilities: list[Capability], *, has_more: bool
) -> ModuleDescriptor:
    """The descriptor, which says of how many tools it tells where it does not tell of all."""
    from claude_comms.descriptors._draft import drafted_descriptor

    total, left, sources = len(capabilities), capabilities[:_MOST_TOOLS], [source]
    while True:
        card = drafted_descriptor({**fields, "metadata": {"drafted_from": sources}}, left)
        kept = len(card.capabilities)
        counted = f"the first {kept} of {total}{' and more' if has_more else ''} tools"
        if (kept == total and not has_more) or sources[1:] == [counted]:
            return card
        left, sources = left[:kept], [source, counted]


def _capabilities(tools: Sequence[Tool]) -> list[Capability]:
    found: dict[str, Capability] = {}
    for tool in tools:
        label = shorten(tool.name, 120)
        if label:
            found.setdefault(label, _capability(label, tool))
    return list(found.values())


def _capability(label: str, tool: Tool) -> Capability:
    from claude_comms.descriptors._model import Capability
    from claude_comms.text import printable

    title = tool.title or (tool.annotations.title if tool.annotations else None)
    description = printable(tool.description or title or "").strip()[:4_000]
    schemas = {"input_schema": _schema(tool.input_schema), "output_schema": _schema(tool.output_schema)}
    values = {"name": label, "tags": _tags(tool), **({"description": description} if description else {})}
    given = {key: value for key, value in schemas.items() if value is not None}
    whole = Capability.model_validate({**values, **given})
    return whole if _fits(whole) else Capability.model_validate(values)


def _fits(capability: Capability) -> bool:
    """Whether a descriptor's file can hold it and others."""
    from claude_comms.descriptors._file import dump_descriptor, loads_descriptor
    from claude_comms.descriptors._model import ModuleDescriptor

    try:
        text = dump_descriptor(ModuleDescriptor(name="one", capabilities=(capability,)), "json")
        loads_descriptor(text, "json")
    except DescriptorError:
        return False
    return len(text) <= _LONGEST_CAPABILITY


def _tags(tool: Tool) -> tuple[str, ...]:
    """What a reader may want to know at once; a server's own word for it."""
    hints = tool.annotations
    read_only = hints is not None and hints.read_only_hint
    destructive = hints is not None and hints.destructive_hint and not read_only
    return ("mcp", *(["read-only"] if read_only else []), *(["destructive"] if destructive else []))


def _schema(schema: Any) -> Any:
    """The schema where it is one that stands by itself."""
    from claude_comms.errors import ContextError
    from claude_comms.jsonable import to_json_value
    from claude_comms.schemas import schema_problems

    if schema is None:
        return None
    try:
        plain = to_json_value(schema)
    except ContextError:
        return None
    return None if schema_problems(plain) else plain

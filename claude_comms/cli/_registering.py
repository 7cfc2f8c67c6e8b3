"""Registering a module, with what it may do told first, and unregistering it."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._registry import descriptor_facts, module_facts
from claude_comms.cli._sources import open_registry
from claude_comms.errors import UnknownModuleError
from claude_comms.mcp_servers import changed_servers, granted_definitions, granted_server, how_to_define
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from claude_comms.descriptors import BaseDescriptor, Module, ModuleDescriptor, Registry
    from claude_comms.mcp_servers import McpServer

__all__ = ["Source", "register", "unregister"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where the descriptor comes from: a file, an agent card, an MCP server; with none of them, the module's path."""

    file: Path | None = None
    card: str | None = None
    mcp: str | None = None
    variables: tuple[str, ...] = ()
    """Names of those that the MCP server's command gets of the environment, beside the usual ones."""

    def __post_init__(self) -> None:
        given = {"--desc": self.file, "--from-card": self.card, "--from-mcp": self.mcp}
        options = [option for option, value in given.items() if value is not None]
        if len(options) > 1:
            raise typer.BadParameter(f"give only one of {' and '.join(options)}.", param_hint=options[-1])
        if self.variables and (self.mcp is None or _is_address(self.mcp)):
            raise typer.BadParameter("it goes with --from-mcp and a command.", param_hint="--pass-env")


def register(name: str, path: Path | None, source: Source, *, yes: bool, as_json: bool) -> None:
    """Register `name` at `path` with the descriptor that `source` gives, else with one drafted from the path."""
    registry = open_registry()
    known = _known(registry, name)
    directory = _directory(path) if path is not None else None
    descriptor = _descriptor(name, directory, source)
    if directory is None and known is not None:
        directory = known.path
    where = str(source.file or name)
    servers = Settings.load().mcp_servers
    granted = _granted(_resolved(registry, descriptor, where), known, servers, yes=yes)
    module = registry.register(
        name,
        path=directory,
        descriptor_file=source.file,
        descriptor=descriptor if source.file is None else None,
        granted=granted,
        servers=granted_definitions(granted, servers),
    )
    if as_json:
        console.document({**descriptor_facts(module.descriptor), **module_facts(module)})
    else:
        _tell(module, source)


def unregister(name: str, *, as_json: bool) -> None:
    """Forget `name`. ConfigError where it is known but not by registration."""
    left = open_registry().unregister(name)
    if as_json:
        console.document({"name": name, "unregistered": True, "left": str(left) if left is not None else None})
        return
    console.result(f"{name} is no longer registered")
    if left is not None:
        console.note(f"Its descriptor was edited and stays, so it is still known: {left}")


def _directory(path: Path) -> Path:
    directory = path.expanduser().absolute()
    if not directory.is_dir():
        raise typer.BadParameter(f"{path} is not a directory.", param_hint="--path")
    return directory


def _known(registry: Registry, name: str) -> Module | None:
    try:
        return registry.get(name)
    except UnknownModuleError:
        return None


def _descriptor(name: str, directory: Path | None, source: Source) -> ModuleDescriptor:
    from claude_comms.descriptors import draft_descriptor, load_agent_card

    if source.card is not None:
        return load_agent_card(source.card, name=name)
    if source.mcp is not None:
        return _listed(name, source.mcp, source.variables)
    if directory is None:  # of the other two the code need not be here
        raise typer.BadParameter("none was given. Name the module's directory; . is this one.", param_hint="--path")
    return _read(name, source.file) if source.file is not None else draft_descriptor(name, directory)


def _read(name: str, file: Path) -> ModuleDescriptor:
    from claude_comms.descriptors import load_descriptor

    descriptor = load_descriptor(file)
    if descriptor.name != name:
        raise typer.BadParameter(f"{file} describes {descriptor.name!r}, not {name!r}.", param_hint="NAME")
    return descriptor


def _listed(name: str, server: str, variables: Sequence[str]) -> ModuleDescriptor:
    """A descriptor from the tools of an MCP server: an address, or a command, which is shown before it is run."""
    from claude_comms.descriptors import draft_from_mcp

    if _is_address(server):
        return draft_from_mcp(name, url=server)
    try:
        command = shlex.split(server)
    except ValueError as error:
        raise typer.BadParameter(f"{server!r} is no command: {error}.", param_hint="--from-mcp") from error
    if not command:
        raise typer.BadParameter("it is empty. Give the command that starts the server.", param_hint="--from-mcp")
    missing = [variable for variable in variables if variable not in os.environ]
    if missing:
        raise typer.BadParameter(f"not set here: {', '.join(missing)}.", param_hint="--pass-env")
    console.note(f"runs, to list its tools: {shlex.join(command)}")
    return draft_from_mcp(name, command=command, environment={item: os.environ[item] for item in variables})


def _is_address(server: str) -> bool:
    return server.lower().startswith(("http://", "https://"))


def _resolved(registry: Registry, descriptor: ModuleDescriptor, where: str) -> ModuleDescriptor:
    """The descriptor with what it extends: that asks for tools, too."""
    from claude_comms.descriptors import ModuleDescriptor, resolve

    def parent(wanted: str) -> ModuleDescriptor | None:
        module = _known(registry, wanted)
        found = module.descriptor if module is not None else None
        return found if isinstance(found, ModuleDescriptor) else None

    return resolve(descriptor, parent, where=where)


def _granted(
    descriptor: BaseDescriptor, known: Module | None, servers: Mapping[str, McpServer], *, yes: bool
) -> tuple[str, ...]:
    """The tools that the user grants, once they have agreed; those agreed to before are not asked about again, unless
    it is a server of which they have agreed to another definition.
    """
    from claude_comms.descriptors import wider_grants

    wanted = wider_grants(descriptor)
    before = known.granted if known is not None else ()
    new = [tool for tool in wanted if tool not in before]
    kept = [tool for tool in wanted if tool in before]
    changed = changed_servers(kept, known.agreed_servers if known is not None else {}, servers)
    if new:
        console.note(f"{descriptor.name} asks for more than reading its own path: {', '.join(new)}")
    if changed:
        console.note(f"{descriptor.name} was granted MCP servers that are not defined as then: {', '.join(changed)}")
    if new or changed:
        _tell_servers([*new, *(tool for tool in wanted if granted_server(tool) in changed)], servers)
        if not yes:
            _confirm()
    return wanted


def _tell_servers(grants: Sequence[str], servers: Mapping[str, McpServer]) -> None:
    """What the MCP servers among the grants are: a descriptor only names them."""
    for name in dict.fromkeys(filter(None, map(granted_server, grants))):
        server = servers.get(name)
        console.note(
            f"MCP server {name}: {server if server is not None else f'not defined yet. {how_to_define(name)}'}"
        )


def _confirm() -> None:
    """Ask the user at the terminal; anything but yes ends the command."""
    if not (console.is_terminal(sys.stdin) and console.is_terminal(sys.stderr)):
        raise typer.BadParameter("nobody can be asked here; give it to grant these tools.", param_hint="--yes")
    if not typer.confirm("Grant these tools?", default=False, err=True):
        console.note("Nothing was registered.")
        raise typer.Exit(1)


def _tell(module: Module, source: Source) -> None:
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    made = source.file is None
    if made and isinstance(module.descriptor, ModuleDescriptor):
        console.result(dump_descriptor(module.descriptor))
    console.result(f"{module.name} is registered" + (f" at {module.path}" if module.path is not None else ""))
    console.note(f"descriptor: {module.file or 'from an installed package'}")
    for hidden in module.hides:
        console.note(f"It hides {hidden}. To use that one: --desc {hidden}")
    if source.card is not None:
        console.note("It says what the card says, which nobody has checked. Read it, correct it: edits count.")
    elif source.mcp is not None:
        console.note("It is a draft, made without calling a tool. Read it, correct it: edits count.")
    elif made:
        console.note("It is a draft, made without running anything of the module. Read it, correct it: edits count.")
    console.note(f'ask: claude-comms query-module {module.name} "What can you do?"')

"""Registering a module, with what it may do told first, and unregistering it."""

from __future__ import annotations

import sys
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

__all__ = ["register", "unregister"]


def register(name: str, path: Path, desc: Path | None, *, yes: bool, as_json: bool) -> None:
    """Register `name` at `path`: with the descriptor in `desc`, else with one drafted from the path."""
    registry = open_registry()
    directory = _directory(path)
    known = _known(registry, name)
    descriptor = _read(registry, name, desc) if desc is not None else _draft(name, directory)
    servers = Settings.load().mcp_servers
    granted = _granted(descriptor, known, servers, yes=yes)
    module = registry.register(
        name,
        path=directory,
        descriptor_file=desc,
        descriptor=descriptor if desc is None else None,
        granted=granted,
        servers=granted_definitions(granted, servers),
    )
    if as_json:
        console.document({**descriptor_facts(module.descriptor), **module_facts(module)})
    else:
        _tell(module, drafted=desc is None)


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


def _draft(name: str, directory: Path) -> ModuleDescriptor:
    from claude_comms.descriptors import draft_descriptor

    return draft_descriptor(name, directory)


def _read(registry: Registry, name: str, desc: Path) -> ModuleDescriptor:
    """The descriptor in a file, with what it extends."""
    from claude_comms.descriptors import ModuleDescriptor, load_descriptor, resolve

    descriptor = load_descriptor(desc)
    if descriptor.name != name:
        raise typer.BadParameter(f"{desc} describes {descriptor.name!r}, not {name!r}.", param_hint="NAME")

    def parent(wanted: str) -> ModuleDescriptor | None:
        module = _known(registry, wanted)
        found = module.descriptor if module is not None else None
        return found if isinstance(found, ModuleDescriptor) else None

    return resolve(descriptor, parent, where=str(desc))


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


def _tell(module: Module, *, drafted: bool) -> None:
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    if drafted and isinstance(module.descriptor, ModuleDescriptor):
        console.result(dump_descriptor(module.descriptor))
    console.result(f"{module.name} is registered at {module.path}")
    console.note(f"descriptor: {module.file or 'from an installed package'}")
    for hidden in module.hides:
        console.note(f"It hides {hidden}. To use that one: --desc {hidden}")
    if drafted:
        console.note("It is a draft, made without running anything of the module. Read it, correct it: edits count.")
    console.note(f'ask: claude-comms query-module {module.name} "What can you do?"')

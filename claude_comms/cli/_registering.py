"""Registering a module, with what it may do told first, and unregistering it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._registry import module_facts
from claude_comms.cli._sources import open_registry

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.descriptors import ModuleDescriptor

__all__ = ["register", "unregister"]


def register(name: str, path: Path, desc: Path | None, *, yes: bool, as_json: bool) -> None:
    """Register `name` at `path`, from the descriptor in `desc` or a drafted one."""
    directory = _directory(path)
    descriptor = _given(name, desc, yes=yes) if desc is not None else _drafted(name, directory, as_json=as_json)
    module = open_registry().register(descriptor, path=directory)
    if as_json:
        console.document(module_facts(module, whole=True))
        return
    console.result(f"{module.name} is registered, with its path {module.path}")
    console.note(f"descriptor: {module.origin}")
    if desc is None:
        console.note("It was drafted without running anything of the module: read it, and correct it where it is wrong.")
    console.note(f'ask: claude-comms query-module {module.name} "What can you do?"')


def unregister(name: str, *, as_json: bool) -> None:
    """Forget `name`. UnknownModuleError where it is not registered."""
    open_registry().unregister(name)
    if as_json:
        console.document({"name": name, "unregistered": True})
    else:
        console.result(f"{name} is no longer registered")


def _directory(path: Path) -> Path:
    directory = path.expanduser().absolute()
    if not directory.is_dir():
        raise typer.BadParameter(f"{path} is not a directory.", param_hint="--path")
    return directory


def _drafted(name: str, directory: Path, *, as_json: bool) -> ModuleDescriptor:
    from claude_comms.descriptors import draft_descriptor, dump_descriptor

    descriptor = draft_descriptor(name, directory)
    if not as_json:
        console.note("Drafted descriptor:")
        console.result(dump_descriptor(descriptor))
    return descriptor


def _given(name: str, desc: Path, *, yes: bool) -> ModuleDescriptor:
    from claude_comms.descriptors import load_descriptor, wider_grants

    descriptor = load_descriptor(desc)
    if descriptor.name != name:
        raise typer.BadParameter(f"{desc} describes {descriptor.name!r}, not {name!r}.", param_hint="NAME")
    grants = wider_grants(descriptor)
    if grants and not yes:
        _confirm(name, grants)
    return descriptor


def _confirm(name: str, grants: tuple[str, ...]) -> None:
    """Ask the user at the terminal whether these grants are meant; anything but yes ends the command."""
    console.note(f"{name} asks for more than reading its own path: {', '.join(grants)}")
    if not (console.is_terminal(sys.stdin) and console.is_terminal(sys.stderr)):
        raise typer.BadParameter("nobody can be asked here; grant these tools with --yes.", param_hint="--desc")
    if not typer.confirm("Grant these tools?", default=False, err=True):
        console.note("Nothing was registered.")
        raise typer.Exit(1)

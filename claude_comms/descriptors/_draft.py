"""A first descriptor for a module that has none, from what lies in its directory. Nothing of it is imported or run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.descriptors._draft_openapi import openapi_capabilities
from claude_comms.descriptors._draft_project import Project, read_project
from claude_comms.descriptors._draft_python import Drafted, python_capabilities
from claude_comms.descriptors._file import dump_descriptor, loads_descriptor
from claude_comms.descriptors._model import Capability, ModuleDescriptor
from claude_comms.errors import ConfigError, DescriptorError
from claude_comms.text import printable, shorten

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["draft_descriptor", "drafted_descriptor"]

_MOST_CAPABILITIES = 30
_OPERATION, _COMMAND = 8.0, 9.0
"""Scores of what a module offers on purpose; functions of an exporting package get up to 10."""


def draft_descriptor(name: str, path: Path) -> ModuleDescriptor:
    """A descriptor for the module in the directory `path`, to be looked over by somebody who knows the module.

    Read: pyproject.toml, setup.cfg or package.json, the README, public Python functions, an OpenAPI file. The
    most useful 30 capabilities stay. ConfigError where `path` is no directory, DescriptorError for a bad `name`.
    """
    root = path.expanduser().absolute()
    if not root.is_dir():
        raise ConfigError(f"{root} is not a directory. Give the module's own directory.")
    project = read_project(root)
    functions, file_count, docstring = python_capabilities(root)
    operations, openapi = openapi_capabilities(root)
    found = [*_commands(project), *(Drafted(item, _OPERATION, item.name) for item in operations), *functions]
    sources = [*project.files, *([openapi] if openapi else []), *([f"{file_count} Python files"] if file_count else [])]
    fields = _fields(name, project, printable(docstring), sources)
    return drafted_descriptor(fields, _chosen(found))


def _fields(name: str, project: Project, docstring: str, sources: list[str]) -> dict[str, Any]:
    first_line = docstring.strip().partition("\n")[0]
    values = {
        "version": shorten(project.version, 60),
        "summary": project.summary or shorten(first_line, 200) or f"The module {name}.",
        "description": project.description or docstring.strip()[:2_000],
    }
    given = {key: value for key, value in values.items() if value}
    return {"name": name, **given, "metadata": {"drafted_from": sources}}


def _commands(project: Project) -> list[Drafted]:
    return [
        Drafted(
            Capability(
                name=label, description=f"The command {label}, which runs {shorten(runs, 200)}.", tags=("command",)
            ),
            _COMMAND,
            f"command {label}",
        )
        for name, runs in sorted(project.scripts.items())
        if (label := shorten(name, 100))
    ]


def _chosen(found: list[Drafted]) -> list[Capability]:
    """The best, each under a name of its own, in the order in which they were found."""
    ranked = sorted(range(len(found)), key=lambda number: -found[number].score)
    named: dict[str, tuple[int, Capability]] = {}
    for number in ranked:
        drafted = found[number]
        name = drafted.capability.name if drafted.capability.name not in named else drafted.full_name
        if name not in named and len(named) < _MOST_CAPABILITIES:
            named[name] = (number, drafted.capability.model_copy(update={"name": name}))
    return [capability for _, capability in sorted(named.values(), key=lambda entry: entry[0])]


def drafted_descriptor(fields: dict[str, Any], capabilities: list[Capability]) -> ModuleDescriptor:
    """The descriptor, with as many of the capabilities as its file can hold."""
    while True:
        given = {"capabilities": tuple(capabilities)} if capabilities else {}
        descriptor = ModuleDescriptor(**fields, **given)
        try:
            return loads_descriptor(dump_descriptor(descriptor))
        except DescriptorError:
            if not capabilities:
                raise
            capabilities = capabilities[: len(capabilities) * 7 // 8]

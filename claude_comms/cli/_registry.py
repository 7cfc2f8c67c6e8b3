"""What the registry holds, as tables, descriptors and documents."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._sources import open_registry
from claude_comms.errors import ConfigError

if TYPE_CHECKING:
    from claude_comms.descriptors import BaseDescriptor, Match, Module

__all__ = [
    "descriptor_facts",
    "module_facts",
    "show_card",
    "show_descriptor",
    "show_format",
    "show_matches",
    "show_modules",
]


def show_modules(
    *, capability: str | None, tag: str | None, data_type: str | None, related_to: str | None, as_json: bool
) -> None:
    """The modules that fit every filter given."""
    registry = open_registry()
    matches = registry.find_modules(None, capability, tag, data_type, related_to)
    modules = [match.module for match in matches]
    if as_json:
        console.document([module_facts(module) for module in modules])
    elif modules:
        _print_modules(modules)
    else:
        console.note("No module fits. Register one: claude-comms register-module NAME --path DIR")
    if not as_json:
        for error in registry.problems():
            console.problem(str(error))


def _print_modules(modules: list[Module]) -> None:
    columns = [console.Column("NAME"), console.Column("FOUND IN"), console.Column("SUMMARY", flexible=True)]
    rows = [[module.name, module.origin, module.descriptor.summary] for module in modules]
    if any(module.path for module in modules):
        columns.append(console.Column("PATH", flexible=True))
        rows = [[*row, str(module.path or "-")] for row, module in zip(rows, modules, strict=True)]
    console.table(columns, rows)


def show_descriptor(name: str, *, as_json: bool) -> None:
    """A module's descriptor as it is used, with what it extends merged in; as YAML after comments on its origin."""
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    module = open_registry().get(name)
    card = module.descriptor
    if as_json:
        console.document({**descriptor_facts(card), **module_facts(module)})
        return
    remarks = [f"{module.origin}: {module.file or 'an installed package'}"]
    remarks += [f"path: {module.path}"] if module.path is not None else []
    remarks += [f"hides: {file}" for file in module.hides]
    remarks += [f"granted: {', '.join(module.granted)}"] if module.granted else []
    remarks += [f"asks for, not granted: {', '.join(module.ungranted)}"] if module.ungranted else []
    for remark in remarks:
        console.result(f"# {console.one_line(remark)}")
    text = dump_descriptor(card) if isinstance(card, ModuleDescriptor) else card.to_prompt("target")
    console.result(text.rstrip("\n"))


def show_card(name: str, url: str | None, *, as_json: bool) -> None:
    """A module as an agent card of A2A 1.0, with what it extends merged in. ConfigError where it has no descriptor that
    a card can carry.
    """
    from claude_comms.descriptors import ModuleDescriptor, to_agent_card

    descriptor = open_registry().get(name).descriptor
    if not isinstance(descriptor, ModuleDescriptor):
        raise ConfigError(f"{name} comes from a class of its own, which no card can carry. Write it a descriptor.")
    card = to_agent_card(descriptor, url=url)
    if as_json:
        console.document(card)
    else:
        console.result(json.dumps(card, indent=2).replace("\x7f", "\\u007f"))  # the one that acts and json leaves


def show_format(*, as_json: bool) -> None:
    """The JSON Schema of descriptor files: for editors, or on one line with ``--json``."""
    from claude_comms.descriptors import descriptor_json_schema

    schema = descriptor_json_schema()
    if as_json:
        console.document(schema)
    else:
        console.result(json.dumps(schema, indent=2))


def show_matches(question: str, limit: int, *, as_json: bool) -> None:
    """The modules to ask about `question`, the best first."""
    matches = open_registry().find_modules(question)[:limit]
    if as_json:
        console.document([_match_facts(match) for match in matches])
    elif matches:
        _print_matches(matches, question)
    else:
        console.note("No module says anything about that. See: claude-comms list-modules")


def _print_matches(matches: list[Match], question: str) -> None:
    console.table(
        [
            console.Column("NAME"),
            console.Column("SUMMARY", flexible=True),
            console.Column("CAPABILITIES THAT FIT", flexible=True),
        ],
        [[match.module.name, match.module.descriptor.summary, ", ".join(_fitting(match)) or "-"] for match in matches],
    )
    console.note(f'ask: claude-comms query-module {matches[0].module.name} "{console.one_line(question)}"')


def _match_facts(match: Match) -> dict[str, Any]:
    return {**module_facts(match.module), "score": match.score, "capabilities": _fitting(match)}


def _fitting(match: Match) -> list[str]:
    return [capability.name for capability in match.capabilities]


def module_facts(module: Module) -> dict[str, Any]:
    """What the registry knows of a module, as JSON values."""
    return {
        "name": module.name,
        "version": module.descriptor.version,
        "summary": module.descriptor.summary,
        "origin": module.origin,
        "file": str(module.file) if module.file is not None else None,
        "path": str(module.path) if module.path is not None else None,
        "hides": [str(file) for file in module.hides],
        "granted": list(module.granted),
    }


def descriptor_facts(card: BaseDescriptor) -> dict[str, Any]:
    """A descriptor as JSON values, as in its file; of an own class what it tells a model."""
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    if isinstance(card, ModuleDescriptor):
        return json.loads(dump_descriptor(card, "json"))
    return {"prompt": card.to_prompt("target")}

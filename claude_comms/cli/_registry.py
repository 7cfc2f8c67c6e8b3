"""What the registry holds, as tables, descriptors and documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.cli._sources import open_registry

if TYPE_CHECKING:
    from claude_comms.descriptors import Module, Registry

__all__ = ["module_facts", "show_descriptor", "show_format", "show_matches", "show_modules"]


def show_modules(
    *, capability: str | None, tag: str | None, data_type: str | None, related_to: str | None, as_json: bool
) -> None:
    """The modules that fit every filter given."""
    registry = open_registry()
    modules = registry.list(capability=capability, tag=tag, data_type=data_type, related_to=related_to)
    if as_json:
        console.document([module_facts(module) for module in modules])
        return
    columns = [console.Column("NAME"), console.Column("VERSION"), console.Column("SUMMARY", flexible=True)]
    rows = [[module.name, module.descriptor.version or "-", module.descriptor.summary] for module in modules]
    if any(module.path for module in modules):
        columns.append(console.Column("PATH", flexible=True))
        rows = [[*row, str(module.path or "-")] for row, module in zip(rows, modules, strict=True)]
    if modules:
        console.table(columns, rows)
    else:
        console.note("No module fits. Register one: claude-comms register-module NAME --path DIR")
    tell_problems(registry)


def tell_problems(registry: Registry) -> None:
    """Descriptor files that could not be read, for people."""
    for error in registry.problems():
        console.problem(str(error))


def show_descriptor(name: str, *, as_json: bool) -> None:
    """A module's descriptor, as it is used: what it extends merged in."""
    from claude_comms.descriptors import ModuleDescriptor, dump_descriptor

    module = open_registry().get(name)
    if as_json:
        console.document(module_facts(module, whole=True))
        return
    console.note(f"from {module.origin}")
    if module.path is not None:
        console.note(f"path {module.path}")
    for hidden in module.hides:
        console.note(f"hides {hidden}")
    card = module.descriptor
    console.result(
        dump_descriptor(card).rstrip("\n") if isinstance(card, ModuleDescriptor) else card.to_prompt("target")
    )


def show_format(*, as_json: bool) -> None:
    """The JSON Schema of descriptor files: a document for editors, on one line with ``--json``."""
    import json

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
        console.document([{**module_facts(match.module), "score": match.score, "why": list(match.why)} for match in matches])
        return
    if not matches:
        console.note("No module says anything about that. See: claude-comms list-modules")
        return
    console.table(
        [
            console.Column("NAME"),
            console.Column("SUMMARY", flexible=True),
            console.Column("BECAUSE OF", flexible=True),
        ],
        [[match.module.name, match.module.descriptor.summary, ", ".join(match.why)] for match in matches],
    )
    best = matches[0].module.name
    console.note(f'ask: claude-comms query-module {best} "{question}"')


def module_facts(module: Module, *, whole: bool = False) -> dict[str, Any]:
    """A module as JSON values; with `whole`, its descriptor too."""
    facts: dict[str, Any] = {
        "name": module.name,
        "version": module.descriptor.version,
        "summary": module.descriptor.summary,
        "path": str(module.path) if module.path is not None else None,
        "origin": str(module.origin),
        "hides": [str(hidden) for hidden in module.hides],
    }
    if whole:
        facts["descriptor"] = module.descriptor.model_dump(mode="json", exclude_defaults=True)
    return facts

"""What modules can do: descriptors, the files they stand in, and the registry that finds them.

The names are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.descriptors._card import from_agent_card, to_agent_card
    from claude_comms.descriptors._card_place import load_agent_card
    from claude_comms.descriptors._draft import draft_descriptor
    from claude_comms.descriptors._draft_mcp import draft_from_mcp
    from claude_comms.descriptors._extends import resolve
    from claude_comms.descriptors._file import (
        descriptor_json_schema,
        dump_descriptor,
        load_descriptor,
        loads_descriptor,
    )
    from claude_comms.descriptors._make import capability, descriptor
    from claude_comms.descriptors._matching import Match
    from claude_comms.descriptors._model import (
        BaseDescriptor,
        Capability,
        DataType,
        Example,
        Hints,
        ModuleDescriptor,
        Permissions,
        Relationship,
    )
    from claude_comms.descriptors._module import Module
    from claude_comms.descriptors._permissions import wider_grants
    from claude_comms.descriptors.registry import Registry

__all__ = [
    "BaseDescriptor",
    "Capability",
    "DataType",
    "Example",
    "Hints",
    "Match",
    "Module",
    "ModuleDescriptor",
    "Permissions",
    "Registry",
    "Relationship",
    "capability",
    "descriptor",
    "descriptor_json_schema",
    "draft_descriptor",
    "draft_from_mcp",
    "dump_descriptor",
    "from_agent_card",
    "load_agent_card",
    "load_descriptor",
    "loads_descriptor",
    "resolve",
    "to_agent_card",
    "wider_grants",
]

_HOME_OF = {
    "_card": ("from_agent_card", "to_agent_card"),
    "_card_place": ("load_agent_card",),
    "_draft": ("draft_descriptor",),
    "_draft_mcp": ("draft_from_mcp",),
    "_extends": ("resolve",),
    "_file": ("descriptor_json_schema", "dump_descriptor", "load_descriptor", "loads_descriptor"),
    "_make": ("capability", "descriptor"),
    "_model": (
        "BaseDescriptor", "Capability", "DataType", "Example", "Hints", "ModuleDescriptor", "Permissions",
        "Relationship",
    ),
    "_permissions": ("wider_grants",),
    "_matching": ("Match",),
    "_module": ("Module",),
    "registry": ("Registry",),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'claude_comms.descriptors' has no attribute {name!r}")
    return getattr(import_module(f"claude_comms.descriptors.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

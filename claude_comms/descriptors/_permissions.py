"""What a descriptor asks for, beyond what every module with a path has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.descriptors._model import BaseDescriptor

__all__ = ["READING", "wider_grants"]

READING = ("Read", "Grep", "Glob")
"""The tools that read inside the module's own path: granted to every module that has one."""


def wider_grants(descriptor: BaseDescriptor) -> tuple[str, ...]:
    """The tools that `descriptor` asks for and that the user must grant, in its order."""
    return tuple(dict.fromkeys(tool for tool in descriptor.permissions.tools if tool not in READING))

"""A module as the registry gives it, and the hash of what its descriptor says."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from claude_comms.descriptors._file import to_values
from claude_comms.descriptors._model import BaseDescriptor, ModuleDescriptor
from claude_comms.descriptors._permissions import READING, wider_grants
from claude_comms.errors import DescriptorError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.descriptors._catalogue import Origin

__all__ = ["Module", "content_digest"]


@dataclass(frozen=True, slots=True)
class Module:
    """A module that is known: its descriptor, complete, and where that came from."""

    name: str
    descriptor: BaseDescriptor
    path: Path | None
    """The module's own directory, where it was registered with one."""
    file: Path | None
    """The descriptor's file; None for a module from an entry point."""
    origin: Origin
    hides: tuple[Path, ...]
    """Files that claim the same name and do not count."""
    granted: tuple[str, ...]
    """What the user agreed to beyond reading the path."""
    digest: str
    """A hash of the descriptor's content, with all that it extends."""
    agreed_servers: Mapping[str, str] = field(default_factory=dict[str, str])
    """The definitions of granted MCP servers that the user agreed to: digests by name."""

    @property
    def ungranted(self) -> tuple[str, ...]:
        """The tools that the descriptor asks for and that nobody has granted."""
        return tuple(tool for tool in wider_grants(self.descriptor) if tool not in self.granted)

    @property
    def permissions_changed(self) -> bool:
        """Whether the descriptor asks for more than was granted, so that the user must be asked."""
        return bool(self.ungranted)

    needs_confirmation = permissions_changed

    @property
    def grants(self) -> tuple[str, ...]:
        """The tools that its instances may use: reading in its path, and what was asked for and granted."""
        reading = READING if self.path is not None else ()
        return (*reading, *(tool for tool in wider_grants(self.descriptor) if tool in self.granted))

    @property
    def register_again(self) -> str:
        """The command that asks the user about its grants anew."""
        words = ["claude-comms", "register-module", self.name, "--path", str(self.path or "DIR")]
        return shlex.join([*words, "--desc", str(self.file)] if self.file is not None else words)


def content_digest(descriptor: BaseDescriptor, name: str) -> str:
    """A hash of a file's values; of any other descriptor, of what it says of itself."""
    if isinstance(descriptor, ModuleDescriptor):
        content = json.dumps(to_values(descriptor), sort_keys=True)
    else:
        content = "\0".join(_said(descriptor, name))
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _said(descriptor: BaseDescriptor, name: str) -> list[str]:
    try:
        return [descriptor.to_prompt("source"), descriptor.to_prompt("target"), *map(repr, descriptor.capabilities)]
    except Exception as error:
        message = f"{type(descriptor).__name__}.to_prompt failed: {type(error).__name__}: {error}"
        raise DescriptorError([Problem(message, hint="repair its package")], path=f"entry point {name}") from error

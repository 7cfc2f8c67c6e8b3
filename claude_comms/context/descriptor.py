"""What the context generator needs of a descriptor. Anything that looks like this will do.

All members are read-only here, so frozen dataclasses, pydantic models and plain classes fit alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

__all__ = ["Capability", "Descriptor", "Example", "Relationship", "Schema"]

Schema = Mapping[str, Any] | bool
"""A JSON Schema 2020-12."""


class Example(Protocol):
    """One use of a capability, as JSON values."""

    @property
    def input(self) -> Any:
        """What went in."""

    @property
    def output(self) -> Any:
        """What came out."""

    @property
    def note(self) -> str | None:
        """What the example shows."""


class Capability(Protocol):
    """One thing a module can do."""

    @property
    def name(self) -> str:
        """Unique within its module."""
        ...

    @property
    def description(self) -> str | None:
        """What it does, in words."""

    @property
    def tags(self) -> Sequence[str]:
        """Words to find it by."""
        ...

    @property
    def input_schema(self) -> Schema | None:
        """What it takes."""

    @property
    def output_schema(self) -> Schema | None:
        """What it gives."""

    @property
    def examples(self) -> Sequence[Example]:
        """Uses of it."""
        ...


class Relationship(Protocol):
    """How a module stands to another."""

    @property
    def module(self) -> str:
        """The other module's name."""
        ...

    @property
    def kind(self) -> str:
        """A word such as ``feeds``."""
        ...

    @property
    def description(self) -> str | None:
        """In words."""


class Descriptor(Protocol):
    """A module's card.

    It is taken as immutable: what is made of it is kept for as long as the object lives. A changed module is
    a new object.
    """

    @property
    def name(self) -> str:
        """The module's name."""
        ...

    @property
    def summary(self) -> str | None:
        """One sentence."""

    @property
    def description(self) -> str | None:
        """As long as need be."""

    @property
    def capabilities(self) -> Sequence[Capability]:
        """What it can do."""
        ...

    @property
    def data_types(self) -> Sequence[Any]:
        """Texts, or objects with `name` and `description`."""
        ...

    @property
    def relationships(self) -> Sequence[Relationship]:
        """How it stands to others."""
        ...

    def to_prompt(self, role: Literal["source", "target"]) -> str:
        """The module's block: identity and capability index as target, a short identity as source."""
        ...

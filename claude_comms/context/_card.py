"""What is made of a descriptor once and used for every question: its blocks, details, passages and index."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING, Literal, cast

from claude_comms.context._version import digest
from claude_comms.context._words import json_text, schema_in_words
from claude_comms.errors import ContextError
from claude_comms.ranking import TextIndex
from claude_comms.types import Passage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.context._pairing import PairBlocks
    from claude_comms.context.descriptor import Capability, Descriptor, Example

__all__ = ["Card", "Cards"]


class Card:
    """One descriptor, prepared. Everything is computed when it is first needed, then kept."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.name = descriptor.name
        self._blocks = {role: _block(descriptor, role) for role in ("source", "target")}
        self._capabilities = tuple(descriptor.capabilities)
        self.relationships = tuple(descriptor.relationships)
        self.passages = tuple(_passages(descriptor))
        """What the descriptor says, for `offline`."""
        self.pairs: weakref.WeakKeyDictionary[Card, PairBlocks] = weakref.WeakKeyDictionary()
        """The system blocks with this module as the source, by target."""

    def block(self, role: Literal["source", "target"]) -> str:
        """What the module says of itself in that part."""
        return self._blocks[role]

    @cached_property
    def details(self) -> tuple[str, ...]:
        """All there is to say about each capability: description, schemas, examples."""
        return tuple(_detail(capability) for capability in self._capabilities)

    @cached_property
    def digest(self) -> str:
        """A hash of what a prompt may take from this card besides its blocks."""
        return digest((*self.details, *(f"{p.kind}\0{p.title}\0{p.text}" for p in self.passages)))

    def rank(self, question: str) -> list[tuple[int, float]]:
        """(position, score) of the capabilities that share a word with `question`, best first."""
        return self._index.rank(question)

    @cached_property
    def _index(self) -> TextIndex:
        return TextIndex([(_title(capability), _body(capability)) for capability in self._capabilities])


class Cards:
    """The cards of the descriptors that are alive, by identity.

    A descriptor that takes no weak reference (a slotted dataclass) gets a new card each time.
    """

    def __init__(self) -> None:
        self._cards: dict[int, tuple[weakref.ref[Descriptor], Card]] = {}

    def of(self, descriptor: Descriptor) -> Card:
        """The card of `descriptor`, made now if this is the first time."""
        key = id(descriptor)
        entry = self._cards.get(key)
        if entry is not None and entry[0]() is descriptor:
            return entry[1]
        card = Card(descriptor)
        try:
            reference = weakref.ref(descriptor, lambda gone: self._forget(key, gone))
        except TypeError:
            return card
        self._cards[key] = (reference, card)
        return card

    def _forget(self, key: int, gone: weakref.ref[Descriptor]) -> None:
        entry = self._cards.get(key)
        if entry is not None and entry[0] is gone:
            del self._cards[key]


def _block(descriptor: Descriptor, role: Literal["source", "target"]) -> str:
    try:
        block = cast("object", descriptor.to_prompt(role))
    except Exception as error:
        raise ContextError(
            f"module {descriptor.name!r}: to_prompt({role!r}) failed: {type(error).__name__}: {error}."
            " Correct its descriptor class."
        ) from error
    if not isinstance(block, str):
        raise ContextError(
            f"module {descriptor.name!r}: to_prompt({role!r}) gave {type(block).__name__}. It must return text."
        )
    return block


def _title(capability: Capability) -> str:
    return " ".join((capability.name, *capability.tags))


def _body(capability: Capability) -> str:
    return "\n".join(passage.text for passage in _capability_passages(capability))


def _detail(capability: Capability) -> str:
    lines = [f"## {capability.name}"]
    if capability.description:
        lines.append(capability.description)
    if capability.tags:
        lines.append(f"Tags: {', '.join(capability.tags)}")
    for word, schema in (("Input", capability.input_schema), ("Output", capability.output_schema)):
        if schema is not None:
            lines.append(f"{word} schema: {json_text(schema)}")
    for example in capability.examples:
        lines.append(f"Example: {example.note}" if example.note else "Example:")
        lines += [f"  {line}" for line in _given(example)]
    return "\n".join(lines)


def _passages(descriptor: Descriptor) -> Iterator[Passage]:
    for text in (descriptor.summary, descriptor.description):
        if text:
            yield Passage("summary", descriptor.name, text)
    for capability in descriptor.capabilities:
        yield from _capability_passages(capability)
    for data_type in descriptor.data_types:
        name = data_type if isinstance(data_type, str) else str(getattr(data_type, "name", data_type))
        yield Passage("data_type", name, str(getattr(data_type, "description", None) or name))
    for relationship in descriptor.relationships:
        text = f"{descriptor.name} {relationship.kind} {relationship.module}"
        described = f"{text}: {relationship.description}" if relationship.description else text
        yield Passage("relationship", relationship.module, described)


def _capability_passages(capability: Capability) -> Iterator[Passage]:
    tags = f"Tags: {', '.join(capability.tags)}" if capability.tags else ""
    said = "\n".join(part for part in (capability.description, tags) if part)
    yield Passage("capability", capability.name, said or capability.name)
    for word, schema in (("input", capability.input_schema), ("output", capability.output_schema)):
        if schema is not None:
            yield Passage("schema", f"{capability.name}: {word}", schema_in_words(schema))
    for example in capability.examples:
        shown = "\n".join([example.note or "", *_given(example)]).strip()
        yield Passage("example", f"{capability.name}: example", shown)


def _given(example: Example) -> list[str]:
    """What an example says of input and output. A pydantic model tells null from nothing; elsewhere None is nothing."""
    fields = getattr(example, "model_fields_set", None)
    values = {"input": example.input, "output": example.output}
    return [
        f"{name}: {json_text(value)}"
        for name, value in values.items()
        if (value is not None if fields is None else name in fields)
    ]

"""Descriptors as agent cards of A2A 1.0, and agent cards as descriptors, both ways without loss.

A capability is a skill. What else a descriptor says stands in an extension of ours; what else a card says stands in
the descriptor's metadata, under `CARD_PLACE`.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

from claude_comms.descriptors._address import ADDRESS, NO_ADDRESS
from claude_comms.descriptors._card_extension import (
    applied,
    difference,
    interface,
    placement_of,
    put_extension,
    take_extension,
    told_by_card,
    with_rest,
)
from claude_comms.descriptors._card_fields import NOTHING, Rest, Values, card_of, rest_from, rest_of, values_of
from claude_comms.descriptors._card_schema import card_problems
from claude_comms.descriptors._file import (
    dump_descriptor,
    from_values,
    loads_descriptor,
    parse_json,
    problems_error,
    to_values,
)
from claude_comms.descriptors._tree import Limits
from claude_comms.errors import ConfigError, ContextError, DescriptorError, Problem
from claude_comms.jsonable import to_json_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from claude_comms.descriptors._model import ModuleDescriptor

__all__ = ["CARD_PLACE", "MAX_CARD_BYTES", "from_agent_card", "to_agent_card"]

CARD_PLACE = "a2a_card"
"""The key in a descriptor's metadata that keeps what a card says and a descriptor has no field for."""

MAX_CARD_BYTES = 1024 * 1024
"""Largest card that is read: it says what a descriptor of the largest size says, some of it twice."""

_LIMITS = Limits(depth=40, nodes=40_000)


def to_agent_card(descriptor: ModuleDescriptor, *, url: str | None = None) -> dict[str, Any]:
    """The agent card of A2A 1.0 for `descriptor`, as JSON values; `from_agent_card` makes an equal descriptor of it.

    `url` is where an A2A server answers for the module (JSON-RPC); without it a card says that there is none, unless
    the descriptor came from a card with interfaces. Signatures that such a card had stay only while nothing of it
    has changed. ConfigError for a `url` that is no http address, and for a descriptor whose class no file can name.
    """
    if url is not None and not ADDRESS.fullmatch(url):
        raise ConfigError(NO_ADDRESS)
    values = to_values(descriptor)
    for uses_rest, tells_rest in ((True, False), (True, True), (False, True)):
        card = _card(values, url, uses_rest=uses_rest, tells_rest=tells_rest)
        if _makes(card, values):
            return card
    raise ConfigError(
        f"{descriptor.name}: {type(descriptor).__name__} cannot be kept in a card. Set its `class` to its entry point."
    )


def from_agent_card(
    card: Mapping[str, Any] | str | bytes, *, name: str | None = None, path: Path | str | None = None
) -> ModuleDescriptor:
    """The descriptor for an agent card of A2A 1.0: its JSON text, or the values in it.

    The card is foreign: it is bounded like a descriptor file, and its signatures are kept, never checked or trusted.
    `name` is what the module is to be called, else a name is made of the card's; `path` is what errors name.
    DescriptorError tells all that is wrong.
    """
    document = parse_json(_text(card, path), path, max_bytes=MAX_CARD_BYTES, limits=_LIMITS)
    problems = card_problems(document.value)
    if problems or document.problems:
        raise problems_error(problems, document, path)
    try:
        descriptor = from_values(_values(document.value, name))
        # A card may be larger than a descriptor's file; what it makes may not.
        return loads_descriptor(dump_descriptor(descriptor, "json"), "json")
    except DescriptorError as error:
        raise DescriptorError(error.problems, path=path) from error


def _text(card: Mapping[str, Any] | str | bytes, path: Path | str | None) -> bytes:
    if isinstance(card, bytes):
        return card
    try:
        text = card if isinstance(card, str) else json.dumps(to_json_value(card, field="card"), ensure_ascii=False)
        return text.encode()
    except ContextError as error:
        raise DescriptorError([Problem(str(error))], path=path) from error
    except UnicodeEncodeError as error:
        raise DescriptorError([Problem("is not valid Unicode")], path=path) from error


def _values(card: Values, name: str | None = None) -> Values:
    """A valid card as a descriptor's values, which are not checked yet in what our extension says."""
    params, own = take_extension(card)
    plain = values_of(own)
    told = applied(params, plain, own)
    if name is not None:
        told["name"] = name
    values = told_by_card(to_values(from_values(told)), plain, own)
    return with_rest(values, _kept(rest_of(own, values), card), CARD_PLACE)


def _kept(rest: Rest, card: Values) -> Values | None:
    """What is kept of a card, as it stands in metadata."""
    placement = placement_of(card)
    if not rest and not placement:
        return None
    kept: Values = {"fields": rest.fields, "skills": rest.skills, "extension": placement}
    if "signatures" in rest.fields:
        kept["signed"] = _digest(card)
    return {key: value for key, value in kept.items() if value}


def _card(values: Values, url: str | None, *, uses_rest: bool, tells_rest: bool) -> Values:
    kept, plain = _split(values)
    rest = (rest_from(kept) if uses_rest else None) or NOTHING
    card = card_of(plain, rest)
    try:
        if card_problems(card):
            return {}
        # What the card's own fields say depends on nothing but them, so the extension can still be added.
        params = difference(values if tells_rest else plain, values_of(card), card)
        if url is not None:
            card = {**card, "supportedInterfaces": [interface(url), *card["supportedInterfaces"]]}
            params["url"] = url
        placement = cast("Values", kept).get("extension") if uses_rest and isinstance(kept, dict) else None
        card = put_extension(card, params, placement)
    except DescriptorError:
        return {}
    if "signatures" in card and _digest(card) != cast("Values", kept).get("signed"):
        del card["signatures"]
    return card


def _split(values: Values) -> tuple[Any, Values]:
    """What was kept of a card, and the values without it."""
    metadata: Values = values.get("metadata") or {}
    if CARD_PLACE not in metadata:
        return None, values
    others = {key: value for key, value in metadata.items() if key != CARD_PLACE}
    plain = {key: value for key, value in values.items() if key != "metadata"}
    return metadata[CARD_PLACE], {**plain, "metadata": others} if others else plain


def _makes(card: Values, values: Values) -> bool:
    """Whether the card is one, and the descriptor's values come out of it again."""
    if not card or card_problems(card):
        return False
    try:
        return _values(card) == values
    except DescriptorError:
        return False


def _digest(card: Values) -> str:
    """Of all that signatures cover."""
    signed = {key: value for key, value in card.items() if key != "signatures"}
    return hashlib.blake2b(json.dumps(signed, sort_keys=True).encode(), digest_size=16).hexdigest()

"""What an A2A 1.0 agent card must look like: the protocol's required fields and the types of those it knows.

Names and types are those of `specification/a2a.proto` of A2A 1.0.0, as its JSON mapping writes them. Fields that it
does not know are allowed anywhere: a later revision may, and they are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from claude_comms.errors import Problem
from claude_comms.schemas import value_problems

__all__ = ["EXTENSION_URI", "card_problems"]

EXTENSION_URI = "urn:claude-comms:descriptor:1"
"""Names the extension that carries what a descriptor says and A2A has no field for."""

_MOST_SKILLS = 500

_TEXT = {"type": "string"}
_SAID = {"type": "string", "minLength": 1}
_MAYBE_TEXT = {"type": ["string", "null"]}
_MAYBE_FLAG = {"type": ["boolean", "null"]}
_MAYBE_OBJECT = {"type": ["object", "null"]}
_MAYBE_OBJECTS = {"type": ["array", "null"], "items": {"type": "object"}}
_TEXTS = {"type": "array", "items": _TEXT}
_MAYBE_TEXTS = {"type": ["array", "null"], "items": _TEXT}


def _message(required: dict[str, Any], /, **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


_OURS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "fields": {"type": "object"},
        "not_given": _TEXTS,
        "capabilities": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"fields": {"type": "object"}, "not_given": _TEXTS},
            },
        },
        "url": _SAID,
    },
}

_EXTENSION = {
    **_message({"uri": _SAID}, description=_MAYBE_TEXT, required=_MAYBE_FLAG, params=_MAYBE_OBJECT),
    "if": {"properties": {"uri": {"const": EXTENSION_URI}}},
    "then": {"required": ["params"], "properties": {"params": _OURS}},
}

_CARD = _message(
    {
        "name": _SAID,
        "description": _SAID,
        "version": _SAID,
        "supportedInterfaces": {
            "type": "array",
            "items": _message({"url": _SAID, "protocolBinding": _SAID, "protocolVersion": _SAID}, tenant=_MAYBE_TEXT),
        },
        "capabilities": _message(
            {},
            streaming=_MAYBE_FLAG,
            pushNotifications=_MAYBE_FLAG,
            extendedAgentCard=_MAYBE_FLAG,
            extensions={"type": ["array", "null"], "items": _EXTENSION},
        ),
        "defaultInputModes": _TEXTS,
        "defaultOutputModes": _TEXTS,
        "skills": {
            "type": "array",
            "maxItems": _MOST_SKILLS,
            "items": _message(
                {"id": _SAID, "name": _SAID, "description": _SAID, "tags": _TEXTS},
                examples=_MAYBE_TEXTS,
                inputModes=_MAYBE_TEXTS,
                outputModes=_MAYBE_TEXTS,
                securityRequirements=_MAYBE_OBJECTS,
            ),
        },
    },
    provider={**_message({"url": _SAID, "organization": _SAID}), "type": ["object", "null"]},
    documentationUrl=_MAYBE_TEXT,
    iconUrl=_MAYBE_TEXT,
    securitySchemes={"type": ["object", "null"], "additionalProperties": {"type": "object"}},
    securityRequirements=_MAYBE_OBJECTS,
    signatures={
        "type": ["array", "null"],
        "items": _message({"protected": _SAID, "signature": _SAID}, header=_MAYBE_OBJECT),
    },
)


def card_problems(card: object) -> list[Problem]:
    """What keeps `card`, a JSON value, from being an agent card of A2A 1.0; empty if it is one."""
    if _is_older(card):
        message = "is an agent card of A2A 0.3 or older: it has no supportedInterfaces"
        return [Problem(message, hint="ask for the card of A2A 1.0")]
    problems = value_problems(_CARD, card)
    if problems:
        return problems
    whole = cast("dict[str, Any]", card)
    ours = [
        number
        for number, extension in enumerate(whole["capabilities"].get("extensions") or [])
        if extension["uri"] == EXTENSION_URI
    ]
    if len(ours) > 1:
        field = f"capabilities.extensions[{ours[1]}].uri"
        problems.append(Problem("is there twice", field, hint="keep one"))
    return [*problems, *_repeated([skill["id"] for skill in whole["skills"]])]


def _is_older(card: object) -> bool:
    if not isinstance(card, Mapping):
        return False
    return "supportedInterfaces" not in card and ("url" in card or "protocolVersion" in card)


def _repeated(ids: list[str]) -> list[Problem]:
    first: dict[str, int] = {}
    return [
        Problem(f"{name!r} is already skills[{first[name]}]", f"skills[{number}].id", hint="an id is there once")
        for number, name in enumerate(ids)
        if first.setdefault(name, number) != number
    ]

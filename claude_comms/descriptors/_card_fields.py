"""The fields that a descriptor and an agent card share, translated both ways.

`card_of` and `values_of` undo each other wherever both sides can say a thing: for every card, what `values_of` takes
from its description, version, skills, tags and examples, `card_of` writes back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from claude_comms.descriptors._model import NAME_PATTERN
from claude_comms.text import shorten

__all__ = ["NOTHING", "SHARED", "SHARED_OF_A_SKILL", "Rest", "card_of", "rest_from", "rest_of", "values_of"]

Values = dict[str, Any]

SHARED = {"version": ("version",), "description": ("summary", "description")}
"""The card's fields, and the descriptor's fields that they are read as."""

SHARED_OF_A_SKILL = {"description": ("description",), "tags": ("tags",), "examples": ("examples",)}

_NO_VERSION = "unknown"
_MODES = ["text/plain", "application/json"]
_LONGEST_SUMMARY = 200
_LONGEST_LABEL = 128
_LABEL = re.compile(r"[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]*\S)?")


@dataclass(frozen=True, slots=True)
class Rest:
    """What a card says and a descriptor has no field for: the card's own fields, and those of skills by capability."""

    fields: Values = field(default_factory=dict[str, Any])
    skills: dict[str, Values] = field(default_factory=dict[str, Values])

    def __bool__(self) -> bool:
        return bool(self.fields or self.skills)


NOTHING = Rest()


def card_of(values: Values, rest: Rest = NOTHING) -> Values:
    """The card for a descriptor's values. What the descriptor says counts before `rest`, and that before stand-ins
    for what A2A requires and neither says.
    """
    given = {"description": _description(values), "version": values.get("version")}
    capabilities: list[Values] = values.get("capabilities") or []
    return {
        "name": values["name"],
        "description": f"The module {values['name']}.",
        "version": _NO_VERSION,
        "supportedInterfaces": [],
        "capabilities": {},
        "defaultInputModes": list(_MODES),
        "defaultOutputModes": list(_MODES),
        **rest.fields,
        **{key: value for key, value in given.items() if value},
        "skills": [
            _skill(capability, skill_id, rest.skills.get(capability["name"], {}))
            for capability, skill_id in zip(capabilities, _ids(capabilities, rest), strict=True)
        ],
    }


def values_of(card: Values) -> Values:
    """What the card's own fields say, as a descriptor's values."""
    values: Values = {"name": _module_name(card["name"]), "version": card["version"], **_texts(card["description"])}
    taken: set[str] = set()
    capabilities = [_capability(skill, taken) for skill in card["skills"]]
    return {**values, "capabilities": capabilities} if capabilities else values


def rest_of(card: Values, values: Values) -> Rest:
    """What `card` says beyond `values`."""
    known = card_of(values)
    skills = {
        capability["name"]: beyond
        for capability, skill, said in zip(
            values.get("capabilities") or [], card["skills"], known["skills"], strict=True
        )
        if (beyond := _beyond(skill, said))
    }
    return Rest({key: value for key, value in _beyond(card, known).items() if key != "skills"}, skills)


def _beyond(whole: Values, known: Values) -> Values:
    return {key: value for key, value in whole.items() if key not in known or known[key] != value}


def _skill(capability: Values, skill_id: str, rest: Values) -> Values:
    uses: list[Values] = capability.get("examples") or []
    notes: list[str] = [use["note"] for use in uses if "note" in use]
    given = {"description": capability.get("description"), "tags": capability.get("tags")}
    examples = {"examples": notes} if notes or capability.get("examples") == [] else {}
    return {
        "id": skill_id,
        "name": capability["name"],
        "description": capability["name"],
        "tags": [],
        **{key: value for key, value in rest.items() if key != "id"},
        **{key: value for key, value in given.items() if value},
        **examples,
    }


def _ids(capabilities: list[Values], rest: Rest) -> list[str]:
    """The skills' ids: those that they came with, or the capabilities' names where these would not be unique."""
    names = [capability["name"] for capability in capabilities]
    ids = [rest.skills.get(name, {}).get("id", name) for name in names]
    return ids if all(isinstance(item, str) for item in ids) and len(set(ids)) == len(ids) else names


def _capability(skill: Values, taken: set[str]) -> Values:
    values: Values = {"name": _label(skill["id"], taken), "description": skill["description"]}
    if skill["tags"]:
        values["tags"] = skill["tags"]
    if skill.get("examples") is not None:
        values["examples"] = [{"note": text} for text in skill["examples"]]
    return values


def _label(skill_id: str, taken: set[str]) -> str:
    """The id, or where a capability cannot be called so, a name made of it."""
    whole = _LABEL.fullmatch(skill_id) is not None and len(skill_id) <= _LONGEST_LABEL
    label = made = skill_id if whole else shorten(skill_id, _LONGEST_LABEL) or "skill"
    number = 2
    while label in taken:
        label, number = f"{made[: _LONGEST_LABEL - 6].rstrip()} {number}", number + 1
    taken.add(label)
    return label


def _module_name(name: str) -> str:
    if re.fullmatch(NAME_PATTERN, name):
        return name
    plain = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-_")
    return (plain if plain[:1].isalpha() else f"agent-{plain}")[:64].rstrip("-_")


def _texts(text: str) -> Values:
    """Summary and description, of which `_description` makes the same text again."""
    head, _, tail = text.partition("\n\n")
    if tail and _is_summary(head) and head != _first_words(tail):
        return {"summary": head, "description": tail}
    if _is_summary(text):
        return {"summary": text}
    summary = _first_words(text)
    return {"summary": summary, "description": text} if summary else {"description": text}


def _description(values: Values) -> str:
    summary, description = values.get("summary") or "", values.get("description") or ""
    if summary and description and summary != _first_words(description):
        return f"{summary}\n\n{description}"
    return description or summary


def _is_summary(text: str) -> bool:
    return bool(text.strip()) and "\n" not in text and len(text) <= _LONGEST_SUMMARY


def _first_words(text: str) -> str:
    return shorten(text, _LONGEST_SUMMARY)


def rest_from(value: object) -> Rest | None:
    """The rest as it is kept in a descriptor; None where that is something else."""
    if not isinstance(value, Mapping):
        return None
    kept = cast("Mapping[str, Any]", value)
    fields, skills = kept.get("fields", {}), kept.get("skills", {})
    if not isinstance(fields, dict) or not isinstance(skills, dict) or "skills" in fields:
        return None
    parts = cast("dict[str, Any]", skills)
    if not all(isinstance(skill, dict) for skill in parts.values()):
        return None
    return Rest(cast("Values", fields), cast("dict[str, Values]", parts))

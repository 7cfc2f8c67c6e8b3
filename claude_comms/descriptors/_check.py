"""What is wrong with a descriptor's content, told in its own words: the field, what it is, what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from claude_comms.descriptors import _model
from claude_comms.descriptors._effort import effort_problem
from claude_comms.errors import Problem
from claude_comms.schemas import schema_problems, value_problems

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = ["content_problems", "explain", "size_problems"]

_MOST_ENTRIES = 500
_MOST_IN_ONE = {"examples": 50, "tags": 50}
_MOST_EXAMPLES_IN_ALL = 1_000
_MOST_EXPLAINED = 100

_PARTS: dict[str, type[BaseModel]] = {
    "capabilities": _model.Capability,
    "examples": _model.Example,
    "data_types": _model.DataType,
    "relationships": _model.Relationship,
    "hints": _model.Hints,
    "permissions": _model.Permissions,
}

_WANTED = {
    "string_type": ("text", ""),
    "tuple_type": ("a list", "write - in front of each item"),
    "list_type": ("a list", "write - in front of each item"),
    "model_type": ("a mapping", "write its fields as key: value"),
    "model_attributes_type": ("a mapping", "write its fields as key: value"),
    "dict_type": ("a mapping", "write its fields as key: value"),
}


def explain(error: ValidationError, card: type[BaseModel]) -> list[Problem]:
    """Pydantic's errors as ours; beyond those that anybody reads, in its own words, which are made faster."""
    details = error.errors(include_url=False)
    first, rest = details[:_MOST_EXPLAINED], details[_MOST_EXPLAINED:]
    return [
        *(_explain_one(detail, card) for detail in first),
        *(Problem(detail["msg"], field_name(detail["loc"])) for detail in rest),
    ]


def field_name(parts: Iterable[str | int]) -> str:
    """A place in a descriptor: ``capabilities[2].name``."""
    name = ""
    for part in parts:
        if isinstance(part, int):
            name += f"[{part}]"
        elif part not in (_model.TEXT_TAG, _model.MAPPING_TAG):
            name += f".{part}" if name else part
    return name


def _explain_one(detail: ErrorDetails, card: type[BaseModel]) -> Problem:
    place, kind, value = detail["loc"], detail["type"], detail["input"]
    field = field_name(place)
    if kind == "missing":
        return Problem("is missing", field, hint=f"add {place[-1]}: ...")
    if kind == "extra_forbidden":
        return Problem("no such field", field, hint=_known_fields(place, card))
    if kind == "string_unicode":  # pydantic notices them where a text has a pattern
        return Problem(_model.NOT_UNICODE, field)
    if kind in _WANTED:
        wanted, hint = _WANTED[kind]
        if wanted == "text" and isinstance(value, (int, float)):
            hint = f'quote it: "{value}"' if not isinstance(value, bool) else f'quote it: "{str(value).lower()}"'
        return Problem(f"must be {wanted}, not {_what(value)}", field, hint=hint)
    if kind == "string_pattern_mismatch" and detail.get("ctx", {}).get("pattern") == _model.NAME_PATTERN:
        message = f"{value!r} is not a module's name"
        return Problem(message, field, hint="lower case letters, digits, - and _; starts with a letter; at most 64")
    if kind in ("string_pattern_mismatch", "string_too_short", "string_too_long"):
        return Problem("must be one line of 1 to 128 characters", field, hint="without spaces at its ends")
    return Problem(detail["msg"].removeprefix("Value error, "), field)


def _known_fields(place: Sequence[str | int], card: type[BaseModel]) -> str:
    parents = [part for part in place[:-1] if isinstance(part, str) and part in _PARTS]
    part = _PARTS[parents[-1]] if parents else card
    known = [info.alias or name for name, info in part.model_fields.items()]
    close = get_close_matches(str(place[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"


def _what(value: object) -> str:
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return type(value).__name__


def size_problems(data: Mapping[str, Any]) -> list[Problem]:
    """Lists that are longer than anybody would read. Told before the rest is looked at, as that would take long."""
    problems = [
        _too_many(len(entries), _MOST_ENTRIES, key)
        for key in ("capabilities", "data_types", "relationships")
        if len(entries := _listed(data.get(key))) > _MOST_ENTRIES
    ]
    if problems:
        return problems
    examples = 0
    for number, capability in enumerate(_listed(data.get("capabilities"))):
        for key, most in _MOST_IN_ONE.items():
            count = len(_listed(_entry(capability, key)))
            examples += count if key == "examples" else 0
            if count > most:
                problems.append(_too_many(count, most, f"capabilities[{number}].{key}"))
    if examples > _MOST_EXAMPLES_IN_ALL and not problems:
        problems.append(_too_many(examples, _MOST_EXAMPLES_IN_ALL, "capabilities", "examples in all "))
    return problems


def _too_many(count: int, most: int, field: str, what: str = "") -> Problem:
    return Problem(f"has {count} {what or 'entries '}of at most {most}", field, hint="keep those that say most")


def _listed(value: object) -> Sequence[object]:
    return cast("Sequence[object]", value) if isinstance(value, (list, tuple)) else ()


def _entry(owner: object, key: str) -> object:
    """What stands under `key`, in a mapping or a model."""
    return cast("Mapping[str, object]", owner).get(key) if isinstance(owner, Mapping) else getattr(owner, key, None)


def content_problems(data: Mapping[str, Any]) -> list[Problem]:
    """What the shape alone does not show: names twice, schemas that are none, examples that do not match.

    Works on whatever is there, so that these problems are told together with those of the shape.
    """
    problems: list[Problem] = []
    capabilities = _items(data.get("capabilities"))
    data_types = _items(data.get("data_types"))
    problems += _repeated(capabilities, "capabilities")
    problems += _repeated(data_types, "data_types")
    for number, capability in enumerate(capabilities):
        problems += _capability_problems(capability, f"capabilities[{number}]")
    for number, data_type in enumerate(data_types):
        _schema, found = _usable_schema(data_type, "schema", f"data_types[{number}]")
        problems += found
    return problems


def _items(value: object) -> list[object]:
    """The entries of a list as plain values, models among them included; empty where it is no list."""
    return [_plain(item) for item in _listed(value)]


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True, by_alias=True)
    return value


def _repeated(items: Sequence[object], field: str) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for number, item in enumerate(items):
        name = cast("Mapping[str, object]", item).get("name") if isinstance(item, Mapping) else item
        if isinstance(name, str) and seen.setdefault(name, number) != number:
            place = f"{field}[{number}].name" if isinstance(item, Mapping) else f"{field}[{number}]"
            problems.append(Problem(f"{name!r} is already {field}[{seen[name]}]", place, hint="give it another name"))
    return problems


def _capability_problems(capability: object, field: str) -> list[Problem]:
    if not isinstance(capability, Mapping):
        return []
    fields = cast("Mapping[str, Any]", capability)
    examples = _items(fields.get("examples"))
    problems: list[Problem] = []
    for side in ("input", "output"):
        schema, found = _usable_schema(fields, f"{side}_schema", field)
        problems += found
        if schema is None:
            continue
        for number, example in enumerate(examples):
            place = f"{field}.examples[{number}].{side}"
            problems += _example_problems(schema, example, side, place)
    return problems


def _usable_schema(owner: object, key: str, field: str) -> tuple[Any, list[Problem]]:
    """The schema under `key` if it can be used, and what is wrong with it if not."""
    schema: object = cast("Mapping[str, object]", owner).get(key) if isinstance(owner, Mapping) else None
    if not isinstance(schema, (dict, bool)):
        return None, []
    problems = schema_problems(schema, field=f"{field}.{key}")  # pyright: ignore[reportUnknownArgumentType]
    if problems:
        return None, problems
    return schema, []  # pyright: ignore[reportUnknownVariableType]


def _example_problems(schema: Any, example: object, side: str, field: str) -> list[Problem]:
    if not isinstance(example, Mapping) or side not in example:
        return []
    value = cast("Mapping[str, Any]", example)[side]
    too_much = effort_problem(schema, value, field)
    if too_much:
        return [too_much]
    try:
        found = value_problems(schema, value, field=field)
    except (ValueError, OverflowError) as error:
        return [Problem(f"cannot be checked: {error}", field)]
    return [Problem(item.message, item.field, hint=f"as {side}_schema asks") for item in found]

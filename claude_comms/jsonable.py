"""Python values as JSON values, or an error that says where the first other one stands."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any, cast
from uuid import UUID

from claude_comms.errors import ContextError

__all__ = ["as_mapping", "to_json_value"]

_DEEPEST = 100
_WIDEST_BITS = 10_000
"""Python refuses to write integers of more than 4,300 digits, some 14,284 bits."""


def to_json_value(value: object, *, field: str = "data") -> Any:
    """`value` as dicts, lists, strings, numbers, booleans and None.

    Beyond JSON's own values: pydantic models and dataclasses become objects; datetime, date and time ISO 8601
    text; Decimal and UUID their text; an Enum its value; a tuple an array. Anything else, NaN, infinities,
    integers of more than 10,000 bits, keys that are not strings, lone surrogates, cycles and more than 100 levels
    raise ContextError naming the path to it.
    """
    return _convert(value, field, 0)


def _convert(value: object, field: str, depth: int) -> Any:
    if depth > _DEEPEST:
        raise ContextError(f"{field}: more than {_DEEPEST} levels deep, or a cycle. Pass a flatter value.")
    match value:
        case Enum():
            return _convert(value.value, field, depth)
        case None | bool():
            return value
        case int():
            return _whole(value, field)
        case str():
            return _text(value, field)
        case float():
            if not math.isfinite(value):
                raise ContextError(f"{field}: {value} is not a JSON number. Pass None or text instead.")
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case Mapping():
            items = cast("Mapping[object, object]", value)
            return {_key(key, field): _convert(item, f"{field}.{key}", depth + 1) for key, item in items.items()}
        case list() | tuple():
            entries = cast("list[object]", value)
            return [_convert(item, f"{field}[{number}]", depth + 1) for number, item in enumerate(entries)]
        case _:
            return _convert_object(value, field, depth)


def _whole(value: int, field: str) -> int:
    if value.bit_length() > _WIDEST_BITS:
        raise ContextError(f"{field}: an integer of {value.bit_length()} bits is too large. Pass it as text.")
    return int(value)


def _convert_object(value: object, field: str, depth: int) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
        return _convert(items, field, depth)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return _convert(_dumped(dump, value, field), field, depth + 1)
    raise ContextError(
        f"{field}: {type(value).__name__} cannot be sent. Pass JSON values, pydantic models, dataclasses,"
        " datetime, Decimal, UUID or Enum."
    )


def _dumped(dump: Callable[[], object], value: object, field: str) -> object:
    try:
        return dump()
    except Exception as error:
        # A model's serializers are its author's code.
        raise ContextError(
            f"{field}: {type(value).__name__} cannot be dumped: {error}. Pass its JSON values."
        ) from error


def _key(key: object, field: str) -> str:
    if isinstance(key, str):
        return _text(key, f"{field} (key)")
    raise ContextError(f"{field}: the key {key!r} is not text. JSON objects have text keys only.")


def _text(value: str, field: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ContextError(f"{field}: not valid Unicode (lone surrogate at {error.start}). Pass clean text.") from error
    return str.__str__(value)  # a text Enum's own `str()` is its name


def as_mapping(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one in place of anything else."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}

"""JSON Schema 2020-12: is a schema one, and does a value match it?

Schemas come from descriptors and callers, so they are foreign: nothing is fetched, and patterns run in linear
time (jsonschema-rs with Rust's `regex`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from claude_comms.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jsonschema_rs import Draft202012Validator, ValidationError

__all__ = ["schema_problems", "value_problems"]

_MOST_PROBLEMS = 20
_DEEPEST = 100


def schema_problems(schema: object, *, field: str = "") -> list[Problem]:
    """What keeps `schema` from being a usable JSON Schema 2020-12; empty if it is one.

    `field` is where it stands, the root of the problems' fields.
    """
    try:
        _validator(schema)
    except Exception as error:  # noqa: BLE001 - jsonschema-rs raises ValidationError, ReferencingError and bare ValueError
        path: Iterable[str | int] = getattr(error, "instance_path", None) or ()
        return [Problem(f"not a JSON Schema 2020-12: {_first_line(error)}", field=_field(field, path))]
    return []


def value_problems(schema: Mapping[str, Any] | bool, value: object, *, field: str = "") -> list[Problem]:
    """Where `value` does not match `schema`; empty if it does. At most 20 problems.

    Raises ValueError when `schema` is no schema: check it with `schema_problems` first.
    """
    validator = _validator(schema)
    if _deeper_than(value, _DEEPEST):
        return [Problem(f"more than {_DEEPEST} levels deep", field=field, hint="a flatter value")]
    found: list[Problem] = []
    try:
        errors: Iterable[ValidationError] = validator.iter_errors(value)
        for error in errors:
            found.append(Problem(_first_line(error), field=_field(field, error.instance_path)))
            if len(found) == _MOST_PROBLEMS:
                break
    except Exception as error:  # noqa: BLE001 - lone surrogates, objects: whatever the conversion to Rust's values raises
        found.append(Problem(f"not a JSON value: {_first_line(error)}", field=field))
    return found


def _deeper_than(value: object, levels: int) -> bool:
    """Whether `value` is nested further: jsonschema-rs 0.37 overflows the stack on some 10,000 levels."""
    layer = [value]
    for _ in range(levels + 1):
        layer = [child for item in layer for child in _children(item)]
        if not layer:
            return False
    return True


def _children(value: object) -> Iterable[object]:
    """What stands directly in `value`, of that what can hold more."""
    if isinstance(value, dict):
        items = cast("Iterable[object]", value.values())
    elif isinstance(value, (list, tuple)):
        items = cast("Iterable[object]", value)
    else:
        return ()
    held: list[object] = [item for item in items if isinstance(item, (dict, list, tuple))]
    return held


def _validator(schema: object) -> Draft202012Validator:
    from jsonschema_rs import Draft202012Validator, RegexOptions

    return Draft202012Validator(schema, pattern_options=RegexOptions(), retriever=_refuse)  # type: ignore[arg-type]


def _refuse(uri: str) -> Any:
    raise ValueError(f"{uri} is outside this document; only references within it (#/...) are followed")


def _first_line(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if len(text) <= 300 else text[:299] + "…"


def _field(root: str, path: Iterable[str | int]) -> str:
    """`root` and `path` as a dotted field: ``capabilities[2].input_schema.type``."""
    field = root
    for part in path:
        field += f"[{part}]" if isinstance(part, int) else f".{part}" if field else part
    return field

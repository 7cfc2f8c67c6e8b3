"""JSON Schema 2020-12: is a schema one, and does a value match it?

Schemas come from descriptors and callers, so they are foreign: nothing is fetched, and patterns run in linear
time (jsonschema-rs with Rust's `regex`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jsonschema_rs import Draft202012Validator, ValidationError

__all__ = ["schema_problems", "value_problems"]

_MOST_PROBLEMS = 20


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
    errors: Iterable[ValidationError] = _validator(schema).iter_errors(value)
    found: list[Problem] = []
    for error in errors:
        found.append(Problem(_first_line(error), field=_field(field, error.instance_path)))
        if len(found) == _MOST_PROBLEMS:
            break
    return found


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

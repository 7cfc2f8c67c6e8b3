"""What all models of the wire have in common, and JSON as bytes."""

from __future__ import annotations

import json
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["Asked", "Id", "Name", "Said", "Text", "decoded", "encoded"]

Id = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Text = Annotated[str, StringConstraints(max_length=16 * 1024 * 1024)]


class Asked(BaseModel):
    """Something a client sends. A field that nobody knows is a mistake, and is told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Said(BaseModel):
    """Something the daemon answers. A field that the reader does not know is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True, hide_input_in_errors=True)

    def fields(self) -> dict[str, Any]:
        """The fields as arguments for the inner type, nested models as theirs, lists as tuples."""
        return {name: _inner(getattr(self, name)) for name in type(self).model_fields}


def _inner(value: Any) -> Any:
    if isinstance(value, Said) and hasattr(value, "inner"):
        return cast("Any", value).inner()
    if isinstance(value, tuple):
        return tuple(_inner(item) for item in cast("tuple[Any, ...]", value))
    return value


def encoded(value: object) -> bytes:
    """`value`, of JSON values, as UTF-8. A lone surrogate, which UTF-8 has no place for, becomes ``?``."""
    return _encode(value).encode("utf-8", "replace")


def decoded(text: str | bytes) -> Any:
    """The JSON value that `text` is. ValueError where it is none, is nested too deeply, or holds NaN."""
    try:
        return _decode(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


# Made once: `json.dumps` and `json.loads` make new ones for each call that says anything of its own.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_no_number).decode

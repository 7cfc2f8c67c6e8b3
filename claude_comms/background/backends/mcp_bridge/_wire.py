"""JSON-RPC as it crosses the connection: written, read, and held against the schema."""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, Any, cast

from claude_comms.background.backends.mcp_bridge._sources import schema
from claude_comms.errors import BackendProtocolError
from claude_comms.jsonable import as_mapping
from claude_comms.text import shorten
from claude_comms.types import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema_rs import Draft202012Validator

__all__ = ["decoded", "encoded", "require_valid"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_DEEPEST = 64
_SHOWN_CHARACTERS = 300


def encoded(message: Mapping[str, Any]) -> str:
    """The message as one text frame: ASCII, so that lone surrogates cross as they are.

    BackendProtocolError for what JSON cannot say.
    """
    try:
        return json.dumps(message, allow_nan=False, separators=(",", ":"))
    except (ValueError, TypeError, RecursionError) as error:
        raise BackendProtocolError(f"a message to the bridge cannot be written: {error}.", backend=BRIDGE) from error


def decoded(frame: str | bytes) -> dict[str, Any]:
    """The response or notification in a frame from the bridge. BackendProtocolError for anything else."""
    try:
        message: Any = json.loads(frame, parse_constant=_refuse)
        if _deeper_than(message, _DEEPEST):
            raise _invalid(f"more than {_DEEPEST} levels deep", frame)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}", frame) from error
    require_valid("ServerNotification" if "method" in as_mapping(message) else "Response", message, frame)
    return message


def require_valid(name: str, value: object, frame: str | bytes = "") -> None:
    """BackendProtocolError where `value` is not what the schema's definition `name` says. `frame` is where it was."""
    told = str(frame[:_SHOWN_CHARACTERS]) if frame else repr(value)
    try:
        # Rust's strings hold no surrogates: they are looked at with something else in their place.
        checked = _without_surrogates(value) if _may_hold_surrogates(frame) else value
        error = next(_validator(name).iter_errors(checked), None)
    except (ValueError, TypeError) as problem:
        raise _invalid(f"not a JSON value: {problem}", told) from problem
    if error is not None:
        path = "".join(f"/{part}" for part in error.instance_path)
        raise _invalid(f"{name}{path}: {shorten(error.message, 200)}", told)


def _may_hold_surrogates(frame: str | bytes) -> bool:
    return not isinstance(frame, str) or not frame or _ESCAPED_SURROGATE.search(frame) is not None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {_without_surrogates(key): _without_surrogates(item) for key, item in items}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in cast("list[Any]", value)]
    return value


def _deeper_than(value: Any, levels: int) -> bool:
    """Whether `value` is nested further: the validator's stack has an end."""
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for item in layer
            if isinstance(item, (dict, list))
            for child in (cast("dict[str, Any]", item).values() if isinstance(item, dict) else cast("list[Any]", item))
        ]
        if not layer:
            return False
    return True


@functools.cache
def _schema() -> dict[str, Any]:
    return schema()


@functools.cache
def _validator(name: str) -> Draft202012Validator:
    from jsonschema_rs import Draft202012Validator

    pointer = name.replace("~", "~0").replace("/", "~1")
    wanted = {"$ref": f"#/$defs/{pointer}", "$defs": _schema()["$defs"]}
    return Draft202012Validator(wanted, validate_formats=True)


def _invalid(problem: str, frame: str | bytes) -> BackendProtocolError:
    return BackendProtocolError(
        f"the bridge said what its protocol does not allow: {problem}. Ask again; should it happen again, install"
        " the bridge of this version: claude-comms install bridge",
        line=shorten(str(frame[: _SHOWN_CHARACTERS * 2]), _SHOWN_CHARACTERS),
        backend=BRIDGE,
    )


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number in JSON")

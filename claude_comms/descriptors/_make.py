"""Descriptors made in code, with schemas taken from types and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from claude_comms.descriptors._check import explain
from claude_comms.descriptors._model import Capability, Example, ModuleDescriptor
from claude_comms.errors import DescriptorError, Problem

__all__ = ["capability", "descriptor"]

Schema = Mapping[str, Any] | bool | type | None
"""A JSON Schema, or a type that one is made from: a pydantic model, a dataclass, ``list[int]``."""


def descriptor(
    name: str,
    summary: str = "",
    *,
    capabilities: Iterable[Capability | Callable[..., object]] = (),
    **fields: Any,
) -> ModuleDescriptor:
    """A descriptor; functions among `capabilities` become capabilities. `fields` are ModuleDescriptor's others.

    DescriptorError tells all that is wrong.
    """
    cards = [item if isinstance(item, Capability) else capability(item) for item in capabilities]
    given: dict[str, Any] = {"summary": summary} if summary else {}
    if cards:
        given["capabilities"] = cards
    return ModuleDescriptor(name=name, **given, **fields)


def capability(
    what: str | Callable[..., object],
    description: str | None = None,
    *,
    tags: Sequence[str] = (),
    input: Schema | object = None,  # noqa: A002 - the word that descriptors use
    output: Schema | object = None,
    examples: Sequence[Example | tuple[object, object]] = (),
) -> Capability:
    """A capability by name, or from a function: its name, docstring, parameters and return type.

    `input` and `output` are JSON Schemas or types. An example may be an (input, output) tuple.
    DescriptorError where a type has no JSON Schema, or a value is wrong.
    """
    if not isinstance(what, str):
        input = _parameters(what) if input is None else input  # noqa: A001
        output = _returned(what) if output is None else output
        description = inspect.getdoc(what) if description is None else description
    name = what if isinstance(what, str) else getattr(what, "__name__", type(what).__name__)
    fields: dict[str, Any] = {
        "description": description,
        "tags": tuple(tags),
        "input_schema": _schema(input, f"{name}: input"),
        "output_schema": _schema(output, f"{name}: output"),
        "examples": tuple(
            Example(input=item[0], output=item[1]) if isinstance(item, tuple) else item for item in examples
        ),
    }
    try:
        return Capability(name=name, **{key: value for key, value in fields.items() if value not in (None, (), "")})
    except ValidationError as error:
        raise DescriptorError(explain(error, Capability)) from error


def _schema(given: Schema | object, field: str) -> Mapping[str, Any] | bool | None:
    if given is None or isinstance(given, (bool, Mapping)):
        return cast("Mapping[str, Any] | bool | None", given)
    try:
        return TypeAdapter(cast("type[object]", given)).json_schema()
    except Exception as error:
        message = f"{given!r} has no JSON Schema: {error}"
        raise DescriptorError([Problem(message, field, hint="give a schema, or a type made of JSON's")]) from error


def _parameters(function: Callable[..., object]) -> type[BaseModel] | None:
    """A model of the function's named parameters; None where it has none."""
    hints = _hints(function)
    fields: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[f"field_{number}"] = (hints.get(name, Any), Field(default, alias=name))
    name = getattr(function, "__name__", "input")
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields) if fields else None


def _returned(function: Callable[..., object]) -> object:
    hint = _hints(function).get("return")
    return None if hint is type(None) else hint


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        message = f"the type hints of {function!r} cannot be read: {error}"
        raise DescriptorError([Problem(message, hint="give input and output schemas instead")]) from error

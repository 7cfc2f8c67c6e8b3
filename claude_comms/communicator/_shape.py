"""The shape that an answer must have, from what the caller gave as `response_model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from claude_comms.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from claude_comms.types import Reply

__all__ = ["ResponseShape"]


@dataclass(frozen=True, slots=True)
class ResponseShape:
    """A JSON Schema for the model, a check beyond it, and how the value becomes the caller's type.

    Without a `response_model`, all None: any text will do.
    """

    schema: Mapping[str, Any] | None = None
    check: Callable[[Any], Sequence[Problem]] | None = None
    _adapter: TypeAdapter[Any] | None = None

    @classmethod
    def of(cls, response_model: type[Any] | Mapping[str, Any] | None) -> ResponseShape:
        """The shape for a type that pydantic can validate, or for a JSON Schema; ConfigError for anything else."""
        if response_model is None:
            return cls()
        if isinstance(response_model, Mapping):
            return cls(schema=response_model)
        from pydantic import PydanticUserError, TypeAdapter
        from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(response_model)
            schema = adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError) as error:
            raise ConfigError(
                f"response_model {response_model!r} has no JSON Schema: {str(error).partition(chr(10))[0]}"
                " Pass a pydantic model, a dataclass, a type such as list[int], or a JSON Schema."
            ) from error
        return cls(schema, lambda value: _problems(adapter, value), adapter)

    def applied(self, reply: Reply) -> Reply:
        """`reply` with its data as the caller's type."""
        if self._adapter is None:
            return reply
        return replace(reply, data=_validated(self._adapter, reply.data))


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    """`value`, a JSON value, as the adapter's type; strings become dates and the like, as they do in JSON."""
    import json

    return adapter.validate_json(json.dumps(value))


def _problems(adapter: TypeAdapter[Any], value: Any) -> list[Problem]:
    from pydantic import ValidationError

    try:
        _validated(adapter, value)
    except ValidationError as error:
        return [
            Problem(str(problem["msg"]), field=".".join(str(part) for part in problem["loc"]))
            for problem in error.errors(include_url=False, include_input=False)
        ]
    except Exception as error:  # noqa: BLE001 - a validator of the caller's may raise anything
        return [Problem(f"the validator failed: {type(error).__name__}: {error}")]
    return []

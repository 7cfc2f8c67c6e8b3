"""Structured answers: the JSON value in a text, and whether it has the shape that was asked for."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from claude_comms.errors import ConfigError, ContextError, Problem
from claude_comms.jsonable import to_json_value
from claude_comms.schemas import schema_problems, value_problems

if TYPE_CHECKING:
    from claude_comms.types import Question

__all__ = ["check_schema", "declines", "read_value"]

_FENCED = re.compile(r"\A\s*(?:[^\n`]*\n+)?```(?:json)?[ \t]*\n(.*?)\n?```\s*\Z", re.DOTALL)


def check_schema(question: Question) -> None:
    """ConfigError where the question's schema is no JSON Schema."""
    if question.schema is None:
        return
    problems = schema_problems(question.schema, field="schema")
    if problems:
        raise ConfigError("; ".join(str(problem) for problem in problems))


def read_value(text: str, question: Question) -> tuple[Any, list[Problem]]:
    """The value in an answer and what is wrong with it; the value counts only where nothing is.

    The answer is JSON as it stands, or one fenced block with at most one line before it.
    """
    fenced = _FENCED.match(text)
    source = fenced.group(1) if fenced else text
    try:
        value = json.loads(source, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        return None, [Problem(f"not JSON: {error}", hint="answer with one JSON value and nothing else")]
    try:
        to_json_value(value, field="answer")
    except ContextError as error:
        return None, [Problem(str(error))]
    problems = value_problems(question.schema if question.schema is not None else True, value)
    if not problems and question.check is not None:
        problems = list(question.check(value))
    return value, problems


def declines(text: str) -> bool:
    """Whether the answer is the protocol's "I can't" or a question back: no repair will give it a shape."""
    return text.lstrip().startswith(("CANNOT:", "ASK:"))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")

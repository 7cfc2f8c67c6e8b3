"""Jinja2 with its teeth drawn: no attributes but plain ones, few filters, bounded loops and results.

Templates are their user's own, but they are handed on like other files, so one must not be able to run code,
read what it is not given, or fill the memory by accident or with a line or two. Not bounded: a loop over a
parameter's items is as long as the parameter, and a text may be doubled with ``~`` once for each line that does it.
"""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from jinja2 import StrictUndefined
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from claude_comms.context._words import json_text
from claude_comms.jsonable import to_json_value
from claude_comms.text import fence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2 import BaseLoader, Template

__all__ = ["Sandbox", "render"]

_MOST_STEPS = 100_000
_MOST_CHARS = 1_000_000
"""By so much may a result be longer than twice what the template is given."""
_LONGEST_TEXT = 50_000_000
_MOST_BITS = 256

_FILTERS = (
    "abs capitalize count d default dictsort first float groupby int items last length list lower map max min"
    " reject rejectattr reverse select selectattr sort string sum title trim truncate unique upper"
).split()

# A few characters of a template can ask these for any length of result.
_WIDE = frozenset("center expandtabs format format_map join ljust replace rjust translate zfill".split())

_steps: ContextVar[list[int]] = ContextVar("_steps")


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that templates are compiled and rendered in."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, loader: BaseLoader) -> None:
        super().__init__(
            loader=loader,
            undefined=StrictUndefined,
            autoescape=False,  # prompts are not HTML; foreign text is fenced instead
            auto_reload=False,
            cache_size=-1,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.globals = {"range": _range}
        self.filters = {name: self.filters[name] for name in _FILTERS}
        self.filters |= {"fenced": _fenced, "join": _join, "json": _json, "replace": _replace, "section": _section}

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse what Jinja2 refuses, and methods of texts that make long texts of short ones."""
        if isinstance(obj, str) and attr in _WIDE:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Let `is_safe_attribute` refuse ``"".format``, which Jinja2 would only wrap."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Count calls: macros may call each other."""
        _spend(1)
        return super().call(*args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse arithmetic with large results."""
        _check_size(operator, left, right)
        return super().call_binop(context, operator, left, right)


def render(template: Template, variables: dict[str, Any]) -> str:
    """The template's text. SecurityError when it takes too many steps or grows too long."""
    given = sum(len(value if isinstance(value, str) else json_text(value)) for value in variables.values())
    room = _MOST_CHARS + 2 * given
    pieces: list[str] = []
    token = _steps.set([_MOST_STEPS])
    try:
        for piece in template.generate(variables):
            room -= len(piece)
            if room < 0:
                raise SecurityError(f"the result is more than {_MOST_CHARS:,} characters longer than what it shows")
            pieces.append(piece)
    finally:
        _steps.reset(token)
    return "".join(pieces)


def _spend(steps: int) -> None:
    left = _steps.get(None)
    if left is None:
        return
    left[0] -= steps
    if left[0] < 0:
        raise SecurityError(f"more than {_MOST_STEPS:,} steps in range() and calls")


def _range(*bounds: int) -> range:
    """Python's range, paid for from the render's steps."""
    numbers = range(*bounds)
    size = max(0, (numbers.stop - numbers.start) // numbers.step)  # len() fails beyond the machine's word
    _spend(min(size, _MOST_STEPS + 1))
    return numbers


def _fenced(value: object, label: str = "text") -> str:
    """Foreign text between marks that it cannot contain; what is no text becomes JSON."""
    return fence(label, value if isinstance(value, str) else _json(value))


def _join(values: Iterable[object], between: str = "") -> str:
    """Jinja2's join of bounded length, for texts and numbers."""
    texts = [str(value) for value in values]
    _check_length(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


def _replace(text: str, old: str, new: str) -> str:
    """Every `old` in `text` as `new`, of bounded length."""
    _check_length(len(text) + text.count(old) * len(new))
    return text.replace(old, new)


def _json(value: object) -> str:
    """`value` as JSON of bounded length."""
    size, pieces = 0, list[str]()
    for piece in json.JSONEncoder(ensure_ascii=False, default=to_json_value).iterencode(value):
        size += len(piece)
        _check_length(size)
        pieces.append(piece)
    return "".join(pieces)


def _check_length(chars: int) -> None:
    if chars > _LONGEST_TEXT:
        raise SecurityError("a text this large")


def _section(text: str) -> str:
    """`text` and a blank line behind it; nothing for an empty text."""
    return f"{text}\n\n" if text else ""


def _check_size(operator: str, left: Any, right: Any) -> None:
    match operator:
        case "%" if isinstance(left, (str, bytes)):
            raise SecurityError("% does not format text here; join with ~")
        case "**":
            if not all(isinstance(side, (int, float)) for side in (left, right)) or (
                isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _MOST_BITS
            ):
                raise SecurityError("** with a result this large")
        case "*":
            if _size(left) * _times(right) > _MOST_CHARS or _size(right) * _times(left) > _MOST_CHARS:
                raise SecurityError("* with a result this large")
            if (
                isinstance(left, int)
                and isinstance(right, int)
                and (left.bit_length() + right.bit_length() > _MOST_BITS)
            ):
                raise SecurityError("* with a result this large")
        case "+":
            _check_length(_size(left) + _size(right))
        case _:
            pass


def _size(value: object) -> int:
    return len(cast("list[object]", value)) if isinstance(value, (str, bytes, list, tuple)) else 0


def _times(value: object) -> int:
    return value if isinstance(value, int) else 0

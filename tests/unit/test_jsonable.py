"""Each kind of value that may be sent, and the path to the first one that may not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer

from claude_comms.errors import ContextError
from claude_comms.jsonable import to_json_value

if TYPE_CHECKING:
    from collections.abc import Callable


class Color(Enum):
    RED = ("red", 1)


class Kind(StrEnum):
    A = "a"


class Old(str, Enum):  # noqa: UP042 - its str() is its name, which must not become a key
    A = "a"


class Level(IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Block:
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Pair:
    left: Any
    right: Any


class Page(BaseModel):
    number: int
    blocks: list[Any] = []


class Broken(BaseModel):
    a: int = 1

    @field_serializer("a")
    def _fail(self, value: int) -> int:
        raise RuntimeError(f"no {value}")


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2.5, 2.5),
        ("ä\0", "ä\0"),
        ([1, [2]], [1, [2]]),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (NOON, "2026-11-21T12:00:00+00:00"),
        (date(2026, 11, 21), "2026-11-21"),
        (time(12, 30), "12:30:00"),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Color.RED, ["red", 1]),
        (Kind.A, "a"),
        (Old.A, "a"),
        (Level.LOW, 1),
        ({Kind.A: 1}, {"a": 1}),
        ({Old.A: 1}, {"a": 1}),
        (Block("x", NOON), {"text": "x", "at": "2026-11-21T12:00:00+00:00"}),
        (Pair(Kind.A, [Pair(1, None)]), {"left": "a", "right": [{"left": 1, "right": None}]}),
        (Page(number=1, blocks=[Block("x", NOON)]), {"number": 1, "blocks": [{"text": "x", "at": NOON.isoformat()}]}),
    ],
)
def test_each_kind_becomes_json(value: object, expected: object) -> None:
    found = to_json_value(value)
    assert found == expected
    assert json.loads(json.dumps(found)) == expected
    assert type(found) in (type(None), bool, int, float, str, list, dict)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(json_values)
def test_json_values_stay_as_they_are(value: object) -> None:
    assert to_json_value(value) == value
    assert json.loads(json.dumps(to_json_value(value))) == value


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Endless:
    def model_dump(self) -> Endless:
        return self


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (object, r"^data: object cannot be sent"),
        (lambda: {1, 2}, r"^data: set"),
        (lambda: b"x", r"^data: bytes"),
        (lambda: Block, r"^data: type"),
        (lambda: Page, r"^data: ModelMetaclass"),
        (lambda: {"a": [0, {"b": object()}]}, r"^data\.a\[1\]\.b: object"),
        (lambda: {"a": Pair(1, object())}, r"^data\.a\.right: object"),
        (lambda: [Page(number=1, blocks=[{1}])], r"^data\[0\]\.blocks\[0\]: set"),
        (lambda: [float("nan")], r"^data\[0\]: nan"),
        (lambda: {"x": float("-inf")}, r"^data\.x: -inf"),
        (lambda: [10**5000], r"^data\[0\]: an integer of 16610 bits"),
        (lambda: {"a": {1: 2}}, r"^data\.a: the key 1 is not text"),
        (lambda: {"a": "x\ud800"}, r"^data\.a: .*lone surrogate at 1"),
        (lambda: {"x\ud800": 1}, r"^data \(key\): .*lone surrogate"),
        (cycle, r"more than 100 levels deep"),
        (Endless, r"^data: more than 100 levels deep"),
        (lambda: [Broken()], r"^data\[0\]: Broken cannot be dumped"),
    ],
)
def test_anything_else_is_refused_with_the_path_to_it(make: Callable[[], object], path: str) -> None:
    with pytest.raises(ContextError, match=path):
        to_json_value(make())


def test_the_root_of_the_path_is_the_callers() -> None:
    with pytest.raises(ContextError, match=r"^context\.a: object"):
        to_json_value({"a": object()}, field="context")

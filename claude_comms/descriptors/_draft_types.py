"""Type hints, as they are written, as JSON Schema. Nothing is evaluated."""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["schema_of"]

_SIMPLE: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "Path": {"type": "string", "description": "a path"},
    "PathLike": {"type": "string", "description": "a path"},
    "datetime": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
    "time": {"type": "string", "format": "time"},
    "UUID": {"type": "string", "format": "uuid"},
    "Decimal": {"type": "string"},
    "dict": {"type": "object"},
    "Dict": {"type": "object"},
    "Mapping": {"type": "object"},
    "MutableMapping": {"type": "object"},
    "Any": {},
    "object": {},
}
_ARRAYS = frozenset(
    "list List Sequence MutableSequence Iterable Iterator Collection Generator AsyncIterator AsyncIterable set Set"
    " frozenset FrozenSet AbstractSet tuple Tuple deque".split()
)
_WRAPPERS = frozenset({"Annotated", "Final", "ClassVar", "Required", "NotRequired", "Awaitable", "ReadOnly"})
_DEEPEST = 12


def schema_of(hint: ast.expr | None, depth: int = 0) -> dict[str, Any]:
    """The schema of the annotation `hint`; one that allows anything, naming the type, where it is not a known one."""
    if hint is None or depth > _DEEPEST:
        return {}
    match hint:
        case ast.Constant(value=None):
            return {"type": "null"}
        case ast.Constant(value=str() as quoted):
            return _quoted(quoted, depth)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _any_of([left, right], depth)
        case ast.Subscript(value=generic, slice=arguments):
            return _generic(_name(generic), arguments, hint, depth)
        case _:
            name = _name(hint)
            if name in _ARRAYS:
                return {"type": "array"}
            return dict(_SIMPLE[name]) if name in _SIMPLE else _unknown(hint)


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _quoted(text: str, depth: int) -> dict[str, Any]:
    try:
        return schema_of(ast.parse(text, mode="eval").body, depth + 1)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _generic(name: str, arguments: ast.expr, hint: ast.expr, depth: int) -> dict[str, Any]:
    parts = arguments.elts if isinstance(arguments, ast.Tuple) else [arguments]
    if name == "Optional":
        return _any_of([*parts, ast.Constant(None)], depth)
    if name == "Union":
        return _any_of(parts, depth)
    if name == "Literal":
        values = [part.value for part in parts if isinstance(part, ast.Constant)]
        return {"enum": values} if all(isinstance(value, (str, int, type(None))) for value in values) else {}
    if name in _WRAPPERS and parts:
        return schema_of(parts[0], depth + 1)
    if name in ("tuple", "Tuple") and not (len(parts) == 2 and _is_ellipsis(parts[1])):
        items = [schema_of(part, depth + 1) for part in parts]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if name in _ARRAYS and parts:
        items = schema_of(parts[0], depth + 1)
        return {"type": "array", "items": items} if items else {"type": "array"}
    if name in _SIMPLE and _SIMPLE[name] == {"type": "object"} and len(parts) == 2:
        values = schema_of(parts[1], depth + 1)
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}
    return _unknown(hint)


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _any_of(parts: list[ast.expr], depth: int) -> dict[str, Any]:
    options: list[dict[str, Any]] = []
    for part in parts:
        schema = schema_of(part, depth + 1)
        for option in schema.get("anyOf", [schema]):
            if option not in options:
                options.append(option)
    return options[0] if len(options) == 1 else {"anyOf": options}


def _unknown(hint: ast.expr) -> dict[str, Any]:
    try:
        return {"description": f"a {ast.unparse(hint)[:200]}"}
    except RecursionError:
        return {}

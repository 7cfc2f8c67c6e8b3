"""JSON Schemas in words: what a field is called, what it holds, whether it must be there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from claude_comms.jsonable import to_json_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.context.descriptor import Schema

__all__ = ["json_text", "schema_in_words"]

_DEEPEST = 6
_MOST_FIELDS = 200


def json_text(value: Any) -> str:
    """`value` as one line of JSON, with every character as itself. ContextError where JSON cannot hold it."""
    return json.dumps(value, ensure_ascii=False, default=to_json_value)


def schema_in_words(schema: Schema) -> str:
    """One line for each field of `schema`: its dotted name, type, whether required, and description.

    References within the document are followed; at most 6 levels deep and 200 fields.
    """
    if isinstance(schema, bool):
        return "anything" if schema else "nothing"
    lines: list[str] = []
    for line in _lines(schema, schema, "", required=False, depth=0):
        lines.append(line)
        if len(lines) == _MOST_FIELDS:
            break
    return "\n".join(lines)


def _lines(schema: object, root: Mapping[str, Any], name: str, *, required: bool, depth: int) -> Iterator[str]:
    node = _resolved(schema, root)
    says = _says(node, root)
    if name:
        yield f"{name} ({says}{', required' if required else ''}){_description(node)}"
    elif node.get("description") or not node.get("properties"):
        yield f"{says}{_description(node)}"
    if depth == _DEEPEST:
        return
    needed = _list(node.get("required"))
    for key, value in _mapping(node.get("properties")).items():
        path = f"{name}.{key}" if name else key
        yield from _lines(value, root, path, required=key in needed, depth=depth + 1)
    item = _resolved(node.get("items"), root)
    if item.get("properties"):
        yield from _lines(item, root, f"{name}[]", required=False, depth=depth + 1)
    for word in ("allOf", "anyOf", "oneOf"):
        for option in _list(node.get(word)):
            for key, value in _mapping(_resolved(option, root).get("properties")).items():
                yield from _lines(value, root, f"{name}.{key}" if name else key, required=False, depth=depth + 1)


def _says(node: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """The type in a few words: ``array of string``, ``one of "a", "b"``."""
    if "const" in node:
        return f"always {json_text(node['const'])}"
    if "enum" in node:
        return "one of " + ", ".join(json_text(value) for value in _list(node["enum"]))
    if "type" in node:
        text = " or ".join(str(kind) for kind in _list(node["type"]) or [node["type"]])
        item = _resolved(node.get("items"), root)
        return f"{text} of {_says(item, {})}" if item and "array" in text else text
    options = [_says(_resolved(option, root), {}) for word in ("anyOf", "oneOf") for option in _list(node.get(word))]
    if options:
        return " or ".join(dict.fromkeys(options))
    return "object" if "properties" in node else "anything"


def _description(node: Mapping[str, Any]) -> str:
    text = node.get("description") or node.get("title")
    default = f" Default: {json_text(node['default'])}." if "default" in node else ""
    return (f": {text}" if isinstance(text, str) else "") + default


def _resolved(schema: object, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """`schema` as an object, its reference within `root` followed; empty where there is nothing to say."""
    node = _mapping(schema)
    for _ in range(_DEEPEST):
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return node
        found: object = root
        for part in reference[2:].split("/"):
            found = _mapping(found).get(part.replace("~1", "/").replace("~0", "~"))
        node = {**_mapping(found), **{key: value for key, value in node.items() if key != "$ref"}}
    return node


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else []

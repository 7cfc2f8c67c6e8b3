"""The operations of an OpenAPI file as capabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from claude_comms.descriptors._file import read_document
from claude_comms.descriptors._model import Capability
from claude_comms.descriptors._tree import Limits
from claude_comms.errors import DescriptorError
from claude_comms.schemas import schema_problems
from claude_comms.text import printable, shorten

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["openapi_capabilities"]

_NAMES = ("openapi.yaml", "openapi.yml", "openapi.json", "swagger.yaml", "swagger.yml", "swagger.json")
_DIRECTORIES = ("", "api", "docs", "spec", "openapi")
_METHODS = ("get", "post", "put", "patch", "delete")
_MAX_BYTES = 4 * 1024 * 1024
_LIMITS = Limits(depth=64, nodes=200_000)
_MOST_OPERATIONS = 200
_MOST_DEFINITIONS = 30
_DEEPEST = 40


def openapi_capabilities(root: Path) -> tuple[list[Capability], str | None]:
    """The operations of the first OpenAPI file found, and that file's name; nothing where there is none."""
    for directory in _DIRECTORIES:
        for name in _NAMES:
            path = root / directory / name
            if (root / directory).is_symlink() or path.is_symlink() or not path.is_file():
                continue
            try:
                document = read_document(path, max_bytes=_MAX_BYTES, limits=_LIMITS)
            except DescriptorError:
                continue
            return _Api(_mapping(document.value)).capabilities(), str(path.relative_to(root))
    return [], None


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _text(value: object) -> str:
    return printable(value).strip() if isinstance(value, str) else ""


class _Api:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root

    def capabilities(self) -> list[Capability]:
        found: dict[str, Capability] = {}
        for path, item in _mapping(self._root.get("paths")).items():
            shared = _list(_mapping(item).get("parameters"))
            for method in _METHODS:
                operation = _mapping(_mapping(item).get(method))
                if operation and len(found) < _MOST_OPERATIONS:
                    capability = self._capability(path, method, operation, shared)
                    found.setdefault(capability.name, capability)
        return list(found.values())

    def _capability(self, path: str, method: str, operation: dict[str, Any], shared: list[Any]) -> Capability:
        call = shorten(f"{method.upper()} {path}", 120)
        said = [_text(operation.get("summary")), _text(operation.get("description"))[:600], f"HTTP: {call}"]
        tags = ["http", *(_text(tag) for tag in _list(operation.get("tags")))]
        values: dict[str, Any] = {
            "name": shorten(_text(operation.get("operationId")), 120) or call,
            "description": "\n\n".join(part for part in said if part),
            "tags": tuple(dict.fromkeys(tag for tag in tags if tag)),
        }
        schemas: dict[str, Any] = {
            "input_schema": self._input(operation, shared),
            "output_schema": self._output(operation),
        }
        usable = {key: schema for key, schema in schemas.items() if schema and not schema_problems(schema)}
        return Capability(**values, **usable)

    def _input(self, operation: dict[str, Any], shared: list[Any]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        required: list[str] = []
        for given in [*shared, *_list(operation.get("parameters"))]:
            parameter = self._followed(given)
            name = _text(parameter.get("name"))
            schema = dict(_mapping(parameter.get("schema")))
            if _text(parameter.get("description")):
                schema["description"] = _text(parameter["description"])
            properties[name] = schema
            if parameter.get("required") is True and name not in required:
                required.append(name)
        body = self._followed(operation.get("requestBody"))
        schema = _json_content(body)
        if schema is not None:
            properties["body"] = schema
            required += ["body"] if body.get("required") is True else []
        properties.pop("", None)
        if not properties:
            return {}
        return self._complete({"type": "object", "properties": properties, "required": required})

    def _output(self, operation: dict[str, Any]) -> dict[str, Any]:
        for status, response in _mapping(operation.get("responses")).items():
            schema = _json_content(self._followed(response)) if str(status).startswith("2") else None
            if schema is not None:
                return self._complete(schema)
        return {}

    def _followed(self, value: object) -> dict[str, Any]:
        """A parameter, body or response, where it stands elsewhere, from there."""
        found = _mapping(value)
        reference = found.get("$ref")
        return _mapping(self._at(reference)) if isinstance(reference, str) else found

    def _at(self, reference: str) -> object:
        found: object = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = _mapping(found).get(part.replace("~1", "/").replace("~0", "~"))
        return found

    def _complete(self, schema: dict[str, Any]) -> dict[str, Any]:
        """The schema as JSON Schema 2020-12 with all that it refers to under `$defs`; empty where that is too much."""
        definitions: dict[str, Any] = {}
        converted = _mapping(_converted(schema))
        waiting = list(_references(converted))
        for reference in waiting:
            name = _definition(reference)
            if name not in definitions:
                definitions[name] = _converted(_mapping(self._at(reference)))
                waiting += _references(definitions[name])
            if len(definitions) > _MOST_DEFINITIONS:
                return {}
        pointed = _mapping(_pointed(converted))
        return {**pointed, "$defs": _pointed(definitions)} if definitions else pointed


def _json_content(holder: dict[str, Any]) -> dict[str, Any] | None:
    for kind, content in _mapping(holder.get("content")).items():
        if "json" in kind and isinstance(_mapping(content).get("schema"), dict):
            return _mapping(_mapping(content)["schema"])
    return None


def _converted(schema: object, depth: int = 0) -> Any:
    """OpenAPI 3.0's own words as JSON Schema 2020-12's."""
    if depth > _DEEPEST:
        return {}
    if isinstance(schema, list):
        return [_converted(item, depth + 1) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    fields = dict(cast("dict[str, Any]", schema))
    if fields.pop("nullable", None) is True and isinstance(fields.get("type"), str):
        fields["type"] = [fields["type"], "null"]
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(fields.get(exclusive), bool) and fields.pop(exclusive) and bound in fields:
            fields[exclusive] = fields.pop(bound)
    return {key: _converted(value, depth + 1) for key, value in fields.items()}


def _references(schema: object) -> Iterator[str]:
    nodes = [schema]
    for node in nodes:
        if isinstance(node, Mapping):
            reference = cast("Mapping[str, object]", node).get("$ref")
            if isinstance(reference, str) and reference.startswith("#/"):
                yield reference
            nodes.extend(cast("Mapping[str, object]", node).values())
        elif isinstance(node, list):
            nodes.extend(cast("list[object]", node))


def _definition(reference: str) -> str:
    return reference.removeprefix("#/").removeprefix("components/").removeprefix("schemas/").replace("/", ".")


def _pointed(schema: object) -> Any:
    """The schema with each reference to where its target now stands."""
    if isinstance(schema, list):
        return [_pointed(item) for item in cast("list[object]", schema)]
    if not isinstance(schema, dict):
        return schema
    fields = cast("dict[str, Any]", schema)
    reference = fields.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        return {**fields, "$ref": f"#/$defs/{_definition(reference)}"}
    return {key: _pointed(value) for key, value in fields.items()}

"""Descriptors as text and files: read with bounds, written without loss."""

from __future__ import annotations

import codecs
import json
import os
import re
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from claude_comms.descriptors._entry_points import descriptor_class
from claude_comms.descriptors._model import NAME_PATTERN, ModuleDescriptor
from claude_comms.descriptors._tree import MAX_PROBLEMS, Document, Limits, build
from claude_comms.errors import DescriptorError, Problem
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "SUFFIXES",
    "Format",
    "descriptor_json_schema",
    "dump_descriptor",
    "from_values",
    "load_descriptor",
    "load_named",
    "loads_descriptor",
    "parse_json",
    "problems_error",
    "read_bounded",
    "read_document",
    "to_values",
]

Format = Literal["yaml", "json"]

MAX_BYTES = 256 * 1024
"""Largest file that is read."""

SUFFIXES: dict[str, Format] = {".yaml": "yaml", ".yml": "yaml", ".json": "json"}

_UTF8_ONLY = "save the file as UTF-8"
_OTHER_ENCODINGS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def load_descriptor(path: Path | str) -> ModuleDescriptor:
    """The descriptor in the file `path`: YAML, or JSON where the name ends in .json. `extends` is not followed.

    DescriptorError tells all that is wrong with it, each with line and field.
    """
    path = Path(path)
    return _from_document(read_document(path), path)


def load_named(path: Path) -> tuple[str, ModuleDescriptor | DescriptorError]:
    """The name that a file claims, and what is in it or wrong with it. Where no name is readable, the file's stem."""
    try:
        document = read_document(path)
    except DescriptorError as error:
        return path.stem, error
    values = cast("dict[str, Any]", document.value) if isinstance(document.value, dict) else {}  # pyright: ignore[reportUnknownMemberType]
    claimed = values.get("name")
    name = claimed if isinstance(claimed, str) and re.match(NAME_PATTERN, claimed) else path.stem
    try:
        return name, _from_document(document, path)
    except DescriptorError as error:
        return name, error


def loads_descriptor(text: str, format: Format = "yaml", path: Path | str | None = None) -> ModuleDescriptor:  # noqa: A002
    """The descriptor in `text`; `path` is what errors name. The same bounds as for files."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise DescriptorError([Problem("is not valid Unicode", line=line, hint=_UTF8_ONLY)], path=path) from error
    if len(data) > MAX_BYTES:
        raise _too_large(len(data), path, MAX_BYTES)
    return _from_document(_parse(data, format, path), path)


def dump_descriptor(descriptor: ModuleDescriptor, format: Format = "yaml") -> str:  # noqa: A002
    """`descriptor` as text that loads back to an equal one. What was not given is not written."""
    values = to_values(descriptor)
    if format == "json":
        return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    from claude_comms.descriptors._yaml import to_yaml

    return to_yaml(values)


def descriptor_json_schema() -> dict[str, Any]:
    """The file format as JSON Schema 2020-12, for editors."""
    schema = ModuleDescriptor.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:claude-comms:descriptor",
        **schema,
        "title": "claude-comms module descriptor",
    }


def to_values(descriptor: ModuleDescriptor) -> dict[str, Any]:
    """The fields that were given, as JSON values under the names that files use."""
    return descriptor.model_dump(mode="json", by_alias=True, exclude_unset=True)


def from_values(values: object, *, path: Path | str | None = None) -> ModuleDescriptor:
    """The descriptor with these fields, of the class that its ``class`` field names."""
    return _from_document(Document(values, {}, []), path)


def read_document(path: Path, *, max_bytes: int = MAX_BYTES, limits: Limits = Limits()) -> Document:  # noqa: B008
    """The value in the file `path`, with lines, not yet checked to be a descriptor."""
    try:
        data = read_bounded(path, max_bytes)
    except OSError as error:
        problem = Problem(f"cannot be read: {error.strerror or error}", hint="check the path and its permissions")
        raise DescriptorError([problem], path=path) from error
    return _parse(data, SUFFIXES.get(path.suffix.lower(), "yaml"), path, limits)


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes`. DescriptorError for any other; OSError as it comes."""
    _check_stat(path.stat(), path, max_bytes)
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO put here meanwhile does not block
    with os.fdopen(handle, "rb") as file:
        _check_stat(os.fstat(file.fileno()), path, max_bytes)
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large(len(data), path, max_bytes)
    return data


def parse_json(data: bytes, path: Path | str | None, *, max_bytes: int, limits: Limits) -> Document:
    """The value in JSON text of at most `max_bytes`, with lines, as foreign as a file's."""
    if len(data) > max_bytes:
        raise _too_large(len(data), path, max_bytes)
    return _parse(data, "json", path, limits)


def problems_error(problems: Sequence[Problem], document: Document, path: Path | str | None) -> DescriptorError:
    """The error that tells the document's own problems and `problems`, each with its line."""
    return DescriptorError(_first([*document.problems, *(_placed(item, document) for item in problems)]), path=path)


def _check_stat(status: os.stat_result, path: Path, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise DescriptorError([Problem("is not a regular file", hint="give a .yaml or .json file")], path=path)
    if status.st_size > max_bytes:
        raise _too_large(status.st_size, path, max_bytes)


def _too_large(size: int, path: Path | str | None, max_bytes: int) -> DescriptorError:
    message = f"is {size:,} bytes; at most {max_bytes:,} are read"
    return DescriptorError([Problem(message, hint="shorten it, or split it with extends")], path=path)


def _parse(data: bytes, format: Format, path: Path | str | None, limits: Limits = Limits()) -> Document:  # noqa: A002, B008
    try:
        text = _decode(data)
        if format == "json":
            from claude_comms.descriptors._json import json_events

            return build(json_events(text), limits)
        from claude_comms.descriptors._yaml import yaml_events

        return build(yaml_events(text), limits)
    except DescriptorError as error:
        raise DescriptorError(_first(error.problems), path=path) from error


def _decode(data: bytes) -> str:
    for mark, name in _OTHER_ENCODINGS.items():
        if data.startswith(mark):
            raise DescriptorError([Problem(f"is {name}, not UTF-8", hint=_UTF8_ONLY)])
    if b"\0" in data:
        line = data.count(b"\n", 0, data.index(b"\0")) + 1
        raise DescriptorError([Problem("contains a NUL byte: no text, or not UTF-8", line=line, hint=_UTF8_ONLY)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(f"byte 0x{data[error.start]:02x} is not UTF-8", line=line, hint=_UTF8_ONLY)
        raise DescriptorError([problem]) from error


def _from_document(document: Document, path: Path | str | None) -> ModuleDescriptor:
    problems: Sequence[Problem] = ()
    descriptor = None
    try:
        descriptor = _validate(document.value)
    except DescriptorError as error:
        problems = [_placed(problem, document) for problem in error.problems]
    problems = [*document.problems, *problems]
    if problems or descriptor is None:
        raise DescriptorError(_first(problems), path=path)
    return descriptor


def _validate(value: object) -> ModuleDescriptor:
    if not isinstance(value, dict):
        what = "is empty" if value is None else "must be a mapping"
        raise DescriptorError([Problem(what, line=1, hint="start with name: and summary:")])
    values = cast("dict[str, Any]", value)
    name = values.get("class")
    card = descriptor_class(name) if isinstance(name, str) else ModuleDescriptor
    return card.model_validate(values)


def _placed(problem: Problem, document: Document) -> Problem:
    return replace(problem, line=problem.line if problem.line is not None else document.line_of(problem.field))


def _readable(problem: Problem) -> Problem:
    """The problem with what it quotes of the file made short and printable."""
    message, field, hint = (shorten(text, 300) for text in (problem.message, problem.field, problem.hint))
    return replace(problem, message=message, field=field, hint=hint)


def _first(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in the order of the file, no more than somebody would read."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    shown = [_readable(problem) for problem in ordered[:MAX_PROBLEMS]]
    more = len(ordered) - len(shown)
    return [*shown, Problem(f"and {more} problems more")] if more else shown

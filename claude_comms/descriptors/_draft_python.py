"""The public functions of Python files as capabilities, read from their syntax. Nothing is imported or run."""

from __future__ import annotations

import ast
import inspect
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_comms.descriptors._draft_sources import python_files, read_text
from claude_comms.descriptors._draft_types import schema_of
from claude_comms.descriptors._model import Capability
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Drafted", "python_capabilities"]

_MOST_BYTES = 20 * 1024 * 1024
_LONGEST_DESCRIPTION = 600

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Drafted:
    """A capability, how useful it seems (more is better), and the name to fall back on when its own is taken."""

    capability: Capability
    score: float
    full_name: str


@dataclass(frozen=True, slots=True)
class _File:
    module: str
    tree: ast.Module
    exported: frozenset[str] | None
    """The names in `__all__`; None where it has none."""


def python_capabilities(root: Path) -> tuple[list[Drafted], int, str]:
    """The capabilities, how many files were read, and the docstring of the outermost package."""
    files = list(_parsed(root))
    offered = frozenset(name for file in files if "." not in file.module for name in _offered(file))
    found = [drafted for file in files for drafted in _functions(file, offered)]
    docstring = next((text for file in files if (text := ast.get_docstring(file.tree))), "")
    return found, len(files), docstring


def _parsed(root: Path) -> Iterator[_File]:
    left = _MOST_BYTES
    for path in python_files(root):
        text = read_text(path)
        if text is None or len(text) > left:
            continue
        left -= len(text)
        tree = _parse(text)
        if tree is not None:
            yield _File(_module_name(path.relative_to(root)), tree, _exported(tree))


def _parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the parser thinks of the file's escapes is not ours to tell
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _module_name(path: Path) -> str:
    parts = list(path.with_suffix("").parts)
    if parts[0] in ("src", "lib", "python") and len(parts) > 1:
        parts = parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _exported(tree: ast.Module) -> frozenset[str] | None:
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
            if isinstance(value, (ast.List, ast.Tuple)):
                constants = [item.value for item in value.elts if isinstance(item, ast.Constant)]
                return frozenset(name for name in constants if isinstance(name, str))
    return None


def _offered(file: _File) -> Iterator[str]:
    """What the outermost package offers: its `__all__`, else what it imports."""
    if file.exported is not None:
        yield from file.exported
        return
    for node in file.tree.body:
        if isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def _functions(file: _File, offered: frozenset[str]) -> Iterator[Drafted]:
    for node in file.tree.body:
        if isinstance(node, _Function) and _is_public(node.name, file.exported):
            yield _drafted(node, file, offered, node.name)
        elif isinstance(node, ast.ClassDef) and _is_public(node.name, file.exported):
            for item in node.body:
                if isinstance(item, _Function) and not item.name.startswith("_") and ast.get_docstring(item):
                    yield _drafted(item, file, offered, f"{node.name}.{item.name}")


def _is_public(name: str, exported: frozenset[str] | None) -> bool:
    return name in exported if exported is not None else not name.startswith("_")


def _drafted(node: _Function, file: _File, offered: frozenset[str], name: str) -> Drafted:
    owner, _, _ = name.partition(".")
    docstring = ast.get_docstring(node) or ""
    hints = [argument.annotation for argument in _arguments(node)]
    score = (
        4.0 * (owner in offered)
        + 3.0 * (file.exported is not None)
        + 2.0 * bool(docstring)
        + 1.0 * (node.returns is not None and None not in hints)
        - 1.0 * (owner != name)
        - 0.25 * file.module.count(".")
    )
    values: dict[str, Any] = {
        "name": shorten(name, 100),
        "description": _description(docstring, file.module, name, node),
        "tags": ("python",),
        "input_schema": _input_schema(node),
    }
    output = schema_of(node.returns)
    if output and output != {"type": "null"}:
        values["output_schema"] = output
    return Drafted(Capability(**values), score, shorten(f"{file.module}.{name}", 120))


def _description(docstring: str, module: str, name: str, node: _Function) -> str:
    first = inspect.cleandoc(docstring).split("\n\n")
    said = "\n\n".join(first[:2]) if docstring else f"The function {name}."
    said = said if len(said) <= _LONGEST_DESCRIPTION else said[:_LONGEST_DESCRIPTION].rstrip() + "…"
    call = f"{module}.{name}({', '.join(argument.arg for argument in _arguments(node))})"
    return f"{said}\n\nPython: {'await ' if isinstance(node, ast.AsyncFunctionDef) else ''}{shorten(call, 300)}"


def _arguments(node: _Function) -> list[ast.arg]:
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in every if argument.arg not in ("self", "cls")]


def _input_schema(node: _Function) -> dict[str, Any]:
    defaults = _defaults(node.args)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for argument in _arguments(node):
        schema = schema_of(argument.annotation)
        if argument.arg not in defaults:
            required.append(argument.arg)
        elif (default := _literal(defaults[argument.arg])) is not ...:
            schema = {**schema, "default": default}
        properties[argument.arg] = schema
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema if node.args.kwarg else {**schema, "additionalProperties": False}


def _defaults(arguments: ast.arguments) -> dict[str, ast.expr]:
    positional = [*arguments.posonlyargs, *arguments.args]
    last = positional[len(positional) - len(arguments.defaults) :]
    found = {argument.arg: default for argument, default in zip(last, arguments.defaults, strict=True)}
    pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    return found | {argument.arg: default for argument, default in pairs if default is not None}


def _literal(node: ast.expr) -> Any:
    """A default that JSON can carry; ... for any other."""
    value = node.value if isinstance(node, ast.Constant) else ...
    if isinstance(value, float) and not math.isfinite(value):
        return ...
    return value if isinstance(value, (str, int, float, bool)) or value is None else ...

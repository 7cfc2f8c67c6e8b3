"""Template files: where they are, what they say, which parameters they declare, what they build on."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import meta, nodes

from claude_comms.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["TemplateFile", "declared_params", "is_template_name", "read_template", "references", "templates_in"]

_LARGEST_BYTES = 1_000_000
_NAME = re.compile(r"(shipped/)?[A-Za-z0-9][A-Za-z0-9_-]*")
_PARAMS = re.compile(r"\s*\{#-?\s*params\s*:(?P<signature>.*?)-?#\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """One template file by itself."""

    name: str
    path: Path
    text: str
    tree: nodes.Template
    required: tuple[str, ...]
    defaults: Mapping[str, Any]


def is_template_name(name: str) -> bool:
    """Whether a template may bear that name: never a path out of its directory."""
    return _NAME.fullmatch(name) is not None


def templates_in(directory: Path) -> list[tuple[str, Path]]:
    """(name, path) of ``NAME.j2`` and ``NAME.md.j2``, in the order of their file names."""
    found = [(path.name.removesuffix(".j2").removesuffix(".md"), path) for path in sorted(directory.glob("*.j2"))]
    return [(name, path) for name, path in found if is_template_name(name) and path.is_file()]


def read_template(path: Path) -> str:
    """The text of a template file; TemplateError where it cannot be one."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise TemplateError(f"larger than {_LARGEST_BYTES:,} bytes. Split it.", path=path)
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TemplateError("not UTF-8. Save it as UTF-8.", path=path, line=line) from error
    except OSError as error:
        raise TemplateError(f"cannot be read: {error.strerror or error}.", path=path) from error


def declared_params(text: str, path: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The parameters that the comment at the top declares: required names, and optional ones with defaults."""
    found = _PARAMS.match(text)
    if found is None:
        return (), {}
    line = text.count("\n", 0, found.start("signature")) + 1
    try:
        signature = ast.parse(f"lambda {' '.join(found['signature'].split())}: 0", mode="eval").body
        if not isinstance(signature, ast.Lambda) or _is_fancy(signature.args):
            raise ValueError("only names, and names with a default")
        names = [arg.arg for arg in signature.args.args]
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        split = len(names) - len(signature.args.defaults)
        values = [ast.literal_eval(default) for default in signature.args.defaults]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise TemplateError(
            f"parameters cannot be read: {reason}. Write them as in a Python signature, required ones first:"
            ' {# params: error, attempt=1, note="" #}',
            path=path,
            line=line,
        ) from error
    return tuple(names[:split]), dict(zip(names[split:], values, strict=True))


def _is_fancy(args: ast.arguments) -> bool:
    return bool(args.posonlyargs or args.kwonlyargs or args.vararg or args.kwarg)


def references(file: TemplateFile) -> list[tuple[str, int]]:
    """(name, line) of the templates that `file` builds on."""
    found: list[tuple[str, int]] = []
    kinds = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
    for node in file.tree.find_all(kinds):
        for name in meta.find_referenced_templates(nodes.Template([node], lineno=node.lineno)):
            if name is None:
                message = "the name of a template must be written out here, not computed."
                raise TemplateError(message, path=file.path, line=node.lineno)
            found.append((name, node.lineno))
    return found

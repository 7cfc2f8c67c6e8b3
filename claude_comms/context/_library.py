"""Finding templates, reading what they declare, and telling what is wrong with one, by file and line."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import BaseLoader, meta, nodes
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError

from claude_comms.context._sandbox import Sandbox, render
from claude_comms.context._template_file import (
    TemplateFile,
    declared_params,
    is_template_name,
    read_template,
    references,
    templates_in,
)
from claude_comms.context._version import digest
from claude_comms.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from jinja2 import Environment, Template

__all__ = ["Library", "Loaded", "did_you_mean"]

SHIPPED = Path(__file__).parent / "templates"
_REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A template that passed every check that can be made without rendering it."""

    name: str
    path: Path
    required: frozenset[str]
    defaults: Mapping[str, Any]
    """Optional parameters. `required` and these include what its parents and inclusions declare."""
    mentions: frozenset[str]
    """Every variable that it, or what it is built on, names."""
    digest: str
    """A hash of its text and those it is built on."""
    compiled: Template


class Library:
    """The templates of some directories, before those shipped. Files are read once, when first used.

    `variables` are the names that the generator gives every template.
    """

    def __init__(self, directories: Sequence[str | Path], variables: Collection[str]) -> None:
        self._directories = tuple(Path(directory) for directory in directories)
        self._variables = frozenset(variables)
        self._files: dict[str, TemplateFile] = {}
        self._loaded: dict[str, Loaded] = {}
        self._environment = Sandbox(_Loader(self._file))

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Every template's file by name. ``shipped/NAME`` is the shipped one even where a user's hides it."""
        found: dict[str, Path] = {}
        for directory in self._directories:
            if not directory.is_dir():
                raise TemplateError("no such directory of templates. Correct template_dirs.", path=directory)
            for name, path in templates_in(directory):
                found.setdefault(name, path)
        for name, path in templates_in(SHIPPED):
            found.setdefault(name, path)
            found[f"shipped/{name}"] = path
        return found

    def get(self, name: str) -> Loaded:
        """The template of that name. TemplateError where there is none, or it cannot work."""
        found = self._loaded.get(name)
        if found is None:
            found = self._loaded[name] = self._load(name)
        return found

    def render(self, template: Loaded, variables: dict[str, Any]) -> str:
        """The template's text. TemplateError with file and line for whatever goes wrong in it."""
        try:
            return render(template.compiled, variables)
        except Exception as error:
            # Templates fail with whatever the values they handle raise.
            path, line = self._place(error, template.path)
            raise TemplateError(_said(error), path=path, line=line) from error

    def _load(self, name: str) -> Loaded:
        files = self._closure(name)
        known = self._variables | {param for file in files for param in (*file.required, *file.defaults)}
        for file in files:
            self._check_variables(file, known)
        try:
            for file in files[1:]:  # so that what is wrong in a parent is told now, too
                self._environment.get_template(file.name)
            compiled = self._environment.get_template(name)
        except Exception as error:
            # Jinja2 and the compiler of the code it writes raise many kinds: syntax, recursion, memory.
            raise self._wrong(error, files[0].path) from error
        params = _params(files)
        return Loaded(
            name=name,
            path=files[0].path,
            required=frozenset(param for param, default in params.items() if default is _REQUIRED),
            defaults={param: default for param, default in params.items() if default is not _REQUIRED},
            mentions=frozenset(node.name for file in files for node in file.tree.find_all(nodes.Name)),
            digest=digest(part for file in files for part in (file.name, file.text)),
            compiled=compiled,
        )

    def _closure(self, name: str) -> list[TemplateFile]:
        """The template and all it extends, includes or imports; itself first."""
        found: dict[str, TemplateFile] = {}
        self._collect(name, (), found)
        return list(found.values())

    def _collect(self, name: str, chain: tuple[str, ...], found: dict[str, TemplateFile]) -> None:
        found[name] = file = self._file(name)
        for used, line in references(file):
            way = (*chain, name, used)
            if used in way[:-1]:
                raise TemplateError(f"the template builds on itself: {' → '.join(way)}.", path=file.path, line=line)
            try:
                if used not in found:
                    self._collect(used, (*chain, name), found)
            except TemplateError as error:
                if error.path is not None:
                    raise
                # An unknown name has no file: what is wrong is where it is used.
                raise TemplateError(error.message, path=file.path, line=line) from error

    def _file(self, name: str) -> TemplateFile:
        found = self._files.get(name)
        if found is None:
            path = self.paths.get(name) if is_template_name(name) else None
            if path is None:
                known = sorted(known for known in self.paths if "/" not in known)
                raise TemplateError(
                    f"no template named {name!r}.{did_you_mean(name, known)} Known: {', '.join(known)}."
                )
            found = self._files[name] = self._parse(name, path)
        return found

    def _parse(self, name: str, path: Path) -> TemplateFile:
        text = read_template(path)
        required, defaults = declared_params(text, path)
        for param in (*required, *defaults):
            if param in self._variables:
                raise TemplateError(
                    f"{param!r} is a component and cannot be a parameter. Rename it.", path=path, line=1
                )
        try:
            tree = self._environment.parse(text, name, str(path))
        except Exception as error:
            # Beyond syntax errors: deep nesting ends in RecursionError.
            raise self._wrong(error, path) from error
        return TemplateFile(name, path, text, tree, required, defaults)

    def _check_variables(self, file: TemplateFile, known: frozenset[str]) -> None:
        try:
            unknown = meta.find_undeclared_variables(file.tree) - known - {"range"}
        except Exception as error:
            # This runs the compiler, which also finds unknown filters.
            raise self._wrong(error, file.path) from error
        for node in file.tree.find_all(nodes.Name):
            if node.name in unknown:
                names = ", ".join(sorted(known))
                raise TemplateError(
                    f"nothing is named {node.name!r}.{did_you_mean(node.name, known)} Declare it as a parameter at the"
                    f" top, {{# params: {node.name} #}}, or use one of: {names}.",
                    path=file.path,
                    line=node.lineno,
                )

    def _wrong(self, error: Exception, path: Path) -> TemplateError:
        """What is wrong in the template at `path`, or in the one that Jinja2 names."""
        line = 1
        if isinstance(error, TemplateSyntaxError):
            line = error.lineno
            path = next((file.path for file in self._files.values() if str(file.path) == error.filename), path)
        return TemplateError(_said(error), path=path, line=line)

    def _place(self, error: Exception, path: Path) -> tuple[Path, int]:
        """Where in a template `error` came up: Jinja2 puts template lines in the traceback."""
        paths = {str(file.path): file.path for file in self._files.values()}
        place, trace = (path, 1), error.__traceback__
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if name in paths:
                place = (paths[name], trace.tb_lineno)
            trace = trace.tb_next
        return place


class _Loader(BaseLoader):
    """Hands Jinja2 the files that were found and checked."""

    def __init__(self, file: Callable[[str], TemplateFile]) -> None:
        self._file = file

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        """The text, the file's name and whether it is still the same, as Jinja2 wants them."""
        try:
            file = self._file(template)
        except TemplateError as error:
            raise TemplateNotFound(template, error.message) from error
        return file.text, str(file.path), lambda: True


def did_you_mean(name: str, known: Collection[str]) -> str:
    """`` Did you mean 'x'?`` where a known name is near, else nothing."""
    near = get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _params(files: Sequence[TemplateFile]) -> dict[str, Any]:
    """Each parameter's default, or `_REQUIRED`; what stands earlier in `files` overrules what stands later."""
    found: dict[str, Any] = {}
    for file in reversed(files):
        found |= dict.fromkeys(file.required, _REQUIRED)
        found |= file.defaults
    return found


def _said(error: Exception) -> str:
    """What went wrong, with what to do where there is more to say than the error does."""
    if isinstance(error, RecursionError):
        return "nested too deeply, or without an end."
    kind = type(error).__name__
    text = getattr(error, "message", None) or str(error)
    return f"{text.rstrip('.')} ({kind}). Correct the template or what it is given."

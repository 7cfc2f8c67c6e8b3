"""Descriptors that other packages bring, found by the entry point group `claude_comms.descriptors`.

A ModuleDescriptor's subclass serves files that name it under ``class``. Anything else that is or makes a
BaseDescriptor (a subclass, an instance, a function without arguments) is a module of its own, whose name is the
entry point's.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

from claude_comms.descriptors._model import BaseDescriptor, ModuleDescriptor
from claude_comms.errors import DescriptorError, Problem

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["GROUP", "descriptor_class", "found_entry_points", "module_of"]

GROUP = "claude_comms.descriptors"


def found_entry_points() -> dict[str, EntryPoint]:
    """The group's entry points by name. Nothing is imported. Of two of a name, the first on the path counts."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for entry_point in entry_points(group=GROUP):
        found.setdefault(entry_point.name, entry_point)
    return found


def descriptor_class(name: str) -> type[ModuleDescriptor]:
    """The class that files select by `name`. DescriptorError where there is none."""
    known = found_entry_points()
    if name not in known:
        close = get_close_matches(name, known, n=1)
        hint = (
            f"did you mean {close[0]}?"
            if close
            else f"install the package that brings it; known: {', '.join(known) or 'none'}"
        )
        raise DescriptorError([Problem(f"no class named {name!r}", "class", hint=hint)])
    loaded = _load(known[name], "class")
    if isinstance(loaded, type) and issubclass(loaded, ModuleDescriptor):
        return loaded
    message = f"{known[name].value} is not a subclass of ModuleDescriptor"
    raise DescriptorError([Problem(message, "class", hint="only such a class can read files")])


def module_of(entry_point: EntryPoint) -> BaseDescriptor | None:
    """The module that an entry point is; None for a class that only serves files."""
    loaded = _load(entry_point, "")
    if isinstance(loaded, type) and issubclass(loaded, ModuleDescriptor):
        return None
    descriptor = loaded if isinstance(loaded, BaseDescriptor) else _call(entry_point, cast("object", loaded))
    if descriptor.name != entry_point.name:
        message = f"{entry_point.value} is named {descriptor.name!r}, its entry point {entry_point.name!r}"
        raise DescriptorError([Problem(message, hint="give both the same name")], path=_where(entry_point))
    return descriptor


def _call(entry_point: EntryPoint, make: object) -> BaseDescriptor:
    try:
        made: object = make() if callable(make) else None
        if isinstance(made, BaseDescriptor) and isinstance(cast("object", made.name), str):
            return made
    except Exception as error:
        raise _broken(entry_point, error, "") from error
    message = f"{entry_point.value} neither is nor makes a BaseDescriptor with a name"
    raise DescriptorError(
        [Problem(message, hint="point it at a subclass, an instance or a function")], path=_where(entry_point)
    )


def _load(entry_point: EntryPoint, field: str) -> object:
    try:
        return entry_point.load()
    except Exception as error:
        raise _broken(entry_point, error, field) from error


def _broken(entry_point: EntryPoint, error: Exception, field: str) -> DescriptorError:
    message = f"{entry_point.value} cannot be loaded: {type(error).__name__}: {error}"
    return DescriptorError([Problem(message, field, hint="repair or uninstall its package")], path=_where(entry_point))


def _where(entry_point: EntryPoint) -> str:
    return f"entry point {entry_point.name}"

"""All descriptors that can be found, as one view of the disk, and whether that view still holds.

A view remembers a signature of every file and directory that it rests on. As long as all of them are the same it
is used again, which costs one `stat` each.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from claude_comms.descriptors._file import SUFFIXES, load_named
from claude_comms.descriptors._registrations import Registration, read_registrations
from claude_comms.errors import DescriptorError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from claude_comms.descriptors._model import ModuleDescriptor

__all__ = ["Candidate", "Catalogue", "Origin", "View", "shipped_directory"]

Origin = Literal["shipped", "home", "extra", "registered", "entry point"]

_YOUNG_NS = 50_000_000
"""File systems count time in ticks: of two changes within one, the second may leave no trace."""


Signature = tuple[int, int, int]
"""What changes when a file does: its time of change (which also moves with the time of modification), size, inode."""


def _is_young(mark: Signature, now_ns: int) -> bool:
    """Whether another change could still look the same."""
    return abs(now_ns - mark[0]) < _YOUNG_NS


def signature(path: str) -> Signature | None:
    """The signature of what is at `path`; None where nothing is."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat, on the way of every question
    except OSError:
        return None
    return (status.st_ctime_ns, status.st_size, status.st_ino)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One file that claims a name, and what was in it."""

    name: str
    origin: Origin
    file: Path
    content: ModuleDescriptor | DescriptorError


@dataclass(slots=True)
class View:
    """What was found: for each name its candidates, those that hide others first."""

    candidates: dict[str, list[Candidate]] = field(default_factory=dict[str, list[Candidate]])
    registrations: dict[str, Registration] = field(default_factory=dict[str, Registration])
    missing: list[DescriptorError] = field(default_factory=list[DescriptorError])
    """Directories that were named and are not there."""
    watched: dict[str, Signature | None] = field(default_factory=dict[str, Signature | None])
    settled: bool = True

    def holds(self) -> bool:
        """Whether nothing has changed since."""
        return self.settled and all(signature(path) == before for path, before in self.watched.items())


class Catalogue:
    """Makes views, and loads again only those files that changed."""

    def __init__(self, home: Path, extra_dirs: Sequence[Path]) -> None:
        self._registry_file = home / "registry.json"
        self._directories: list[tuple[Path, Origin]] = [
            *((directory, "extra") for directory in extra_dirs),
            (home / "descriptors", "home"),
            (shipped_directory(), "shipped"),
        ]
        self._loaded: dict[str, tuple[Signature, str, ModuleDescriptor | DescriptorError]] = {}

    def look(self) -> View:
        """A new view. ConfigError where `registry.json` is damaged."""
        view = View()
        now_ns = time.time_ns()
        self._watch(view, self._registry_file)
        view.registrations = read_registrations(self._registry_file).modules
        for name, registration in view.registrations.items():
            if registration.file is not None:
                self._add(view, registration.file, "registered", name)
        for directory, origin in self._directories:
            self._watch(view, directory)
            for file in self._files(view, directory, origin):
                self._add(view, file, origin)
        view.settled = not any(mark and _is_young(mark, now_ns) for mark in view.watched.values())
        self._loaded = {path: known for path, known in self._loaded.items() if path in view.watched}
        return view

    def _watch(self, view: View, path: Path) -> Signature | None:
        mark = view.watched[str(path)] = signature(str(path))
        return mark

    def _files(self, view: View, directory: Path, origin: Origin) -> Iterable[Path]:
        try:
            names = sorted(entry.name for entry in os.scandir(directory))
        except OSError as error:
            if origin == "extra":
                problem = Problem(
                    f"the directory cannot be read: {error.strerror}", hint="correct CLAUDE_COMMS_DESCRIPTORS"
                )
                view.missing.append(DescriptorError([problem], path=directory))
            return []
        return [
            directory / name for name in names if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
        ]

    def _add(self, view: View, file: Path, origin: Origin, registered_as: str | None = None) -> None:
        mark = self._watch(view, file)
        if mark is None:
            name, content = registered_as or file.stem, _gone(file, registered_as)
        else:
            name, content = self._load(file, mark)
        if registered_as is not None and name != registered_as:
            name, content = registered_as, _renamed(file, registered_as, name, content)
        view.candidates.setdefault(name, []).append(Candidate(name, origin, file, content))

    def _load(self, file: Path, mark: Signature) -> tuple[str, ModuleDescriptor | DescriptorError]:
        known = self._loaded.get(str(file))
        if known is None or known[0] != mark or _is_young(mark, time.time_ns()):
            known = self._loaded[str(file)] = (mark, *load_named(file))
        return known[1:]


def _gone(file: Path, name: str | None) -> DescriptorError:
    again = f"register it again: claude-comms register-module {name} --path DIR --desc FILE" if name else ""
    return DescriptorError([Problem("the registered descriptor is gone", hint=again)], path=file)


def _renamed(file: Path, name: str, found: str, content: ModuleDescriptor | DescriptorError) -> DescriptorError:
    if isinstance(content, DescriptorError):
        return content
    problem = Problem(
        f"is registered as {name!r} but says {found!r}", "name", hint="name it as before, or register it anew"
    )
    return DescriptorError([problem], path=file)


def shipped_directory() -> Path:
    """Where the descriptors that come with claude-comms are: in the wheel, or beside the package in a checkout."""
    here = Path(__file__).parent
    in_wheel = here / "shipped"
    return in_wheel if in_wheel.is_dir() else here.parents[1] / "descriptors"

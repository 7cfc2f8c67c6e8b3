"""The registry: which modules are known, from which file each comes, and which one fits a question."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.descriptors._catalogue import Candidate, Catalogue, Origin, View
from claude_comms.descriptors._entry_points import found_entry_points, module_of
from claude_comms.descriptors._extends import resolve
from claude_comms.descriptors._file import dump_descriptor, load_descriptor, loads_descriptor
from claude_comms.descriptors._matching import Filters, Match, ModuleIndex
from claude_comms.descriptors._model import BaseDescriptor, ModuleDescriptor
from claude_comms.descriptors._module import Module, content_digest
from claude_comms.descriptors._registrations import Registration, Registrations, changing
from claude_comms.errors import ConfigError, DescriptorError, UnknownModuleError
from claude_comms.files import private_dir, write_private
from claude_comms.types import ANONYMOUS

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from importlib.metadata import EntryPoint

__all__ = ["Match", "Module", "Registry"]


class Registry:
    """The modules of one home. Changed files are noticed at the next call; safe to use from several threads.

    Where several files claim a name, the registered one counts, then those of `extra_dirs` in their order, then
    `descriptors` in the home, then entry points, then what is shipped. Reading neither needs the home nor makes it.
    """

    def __init__(self, home: str | Path, extra_dirs: Sequence[str | Path] = ()) -> None:
        self._home = home = Path(home)
        self._file = home / "registry.json"
        self._catalogue = Catalogue(home, [Path(directory) for directory in extra_dirs])
        self._lock = threading.RLock()
        self._view: View | None = None
        self._held = False
        """Whether the view is taken as it is; see `one_look`."""
        self._modules: dict[str, Module] = {}
        self._index: ModuleIndex | None = None
        self._entry_points: dict[str, EntryPoint] | None = None
        self._from_entry_points: dict[str, BaseDescriptor | DescriptorError | None] = {}

    # --- reading -------------------------------------------------------------------------------

    def get(self, name: str) -> Module:
        """The module `name`. UnknownModuleError; DescriptorError where its descriptor is broken."""
        with self._lock:
            view = self._look()
            module = self._modules.get(name)
            if module is None:
                module = self._modules[name] = self._build(view, name)
            return module

    @contextmanager
    def one_look(self) -> Generator[None]:
        """Everything within reads the modules as of one moment: the files are looked at once, at its beginning."""
        with self._lock:
            self._look()
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def list(self) -> list[Module]:
        """All modules whose descriptors can be used, by name."""
        return [module for name in self._names() if isinstance(module := self._try(name), Module)]

    def problems(self) -> list[DescriptorError]:
        """What is wrong with the others, and directories that are not there."""
        with self._lock:
            view = self._look()
            found = [error for name in self._names() if isinstance(error := self._try(name), DescriptorError)]
            hidden = [
                candidate.content
                for candidates in view.candidates.values()
                for candidate in candidates[1:]
                if isinstance(candidate.content, DescriptorError)
            ]
            return [*view.missing, *found, *hidden]

    def find_modules(
        self,
        text: str | None = None,
        capability: str | None = None,
        tag: str | None = None,
        data_type: str | None = None,
        relationship: str | None = None,
    ) -> list[Match]:
        """The modules that fit all that is given: by name without `text`, else best first.

        `text` is a question in words; the others are names, upper and lower case alike. `relationship` is the
        other module or the kind.
        """
        filters = Filters(capability, tag, data_type, relationship)
        with self._lock:
            modules = self.list()
            if text is None:
                ranked = [Match(module, 0.0) for module in modules]
            else:
                self._index = self._index or ModuleIndex(modules)
                ranked = self._index.rank(text)
        matches: list[Match] = []
        for match in ranked:
            asked = filters.capabilities(match.module.descriptor)
            if asked is not None:
                matches.append(Match(match.module, match.score, match.capabilities or asked))
        return matches

    def module_for_path(self, directory: Path) -> Module | None:
        """The module whose registered path holds `directory`, the deepest if several do."""
        with self._lock:
            registrations = self._look().registrations
        wanted = directory.resolve()
        holding = [
            (len(path.parts), name)
            for name, registration in registrations.items()
            if registration.path is not None and wanted.is_relative_to(path := registration.path.resolve())
        ]
        return self.get(max(holding)[1]) if holding else None

    # --- changing ------------------------------------------------------------------------------

    def register(
        self,
        name: str,
        *,
        path: Path | None = None,
        descriptor_file: Path | None = None,
        descriptor: ModuleDescriptor | None = None,
        granted: tuple[str, ...] = (),
        servers: Mapping[str, str] | None = None,
    ) -> Module:
        """Make the module `name` known, or known differently.

        `servers` holds the digests of the MCP servers among `granted`, as the user agreed to them: without its own, a
        granted server is not used.

        A `descriptor_file` stays where it is, so that edits of it count; a `descriptor` is written to the home.
        With neither, the descriptor is the one already found under that name, or drafted from `path`.
        ConfigError where the descriptor has another name, `path` is no directory, or `name` means nobody.
        """
        if name == ANONYMOUS:
            raise ConfigError(f"{name}: whoever asks in no module's name is called so. Choose another name.")
        directory = _directory(path)
        if descriptor_file is None and descriptor is None and name not in self._names():
            if directory is None:
                raise UnknownModuleError(name, self._names(), suggestion=self._close(name))
            from claude_comms.descriptors._draft import draft_descriptor

            descriptor = draft_descriptor(name, directory)
        with self._lock, changing(self._file) as registrations:
            before = registrations.modules.get(name)
            registration = self._described(name, before, descriptor_file, descriptor)
            registrations.modules[name] = registration.model_copy(
                update={"path": directory, "granted": granted, "servers": dict(servers or {})}
            )
        return self.get(name)

    def update(
        self,
        name: str,
        *,
        path: Path | None = None,
        descriptor_file: Path | None = None,
        descriptor: ModuleDescriptor | None = None,
        granted: tuple[str, ...] | None = None,
    ) -> Module:
        """Change what is given of a registration and keep the rest. ConfigError where `name` is not registered."""
        directory = _directory(path)
        with self._lock, changing(self._file) as registrations:
            before = self._registered(registrations, name)
            registration = self._described(name, before, descriptor_file, descriptor)
            changed = {"path": directory, "granted": granted}
            registrations.modules[name] = registration.model_copy(
                update={key: value for key, value in changed.items() if value is not None}
            )
        return self.get(name)

    def unregister(self, name: str) -> Path | None:
        """Forget the registration of `name`, and a descriptor that was written for it.

        A written descriptor that was edited since stays, and is returned: the module is still known by it.
        """
        with self._lock, changing(self._file) as registrations:
            registration = self._registered(registrations, name)
            del registrations.modules[name]
            if registration.file is None or registration.written is None:
                return None
            if _text_digest(registration.file) not in (registration.written, None):
                return registration.file
            registration.file.unlink(missing_ok=True)
            return None

    # --- inside --------------------------------------------------------------------------------

    def _look(self) -> View:
        """The current view; what was made of the last one is dropped with it."""
        if self._view is None or not (self._held or self._view.holds()):
            self._view = self._catalogue.look()
            self._modules, self._index = {}, None
        return self._view

    def _names(self) -> Sequence[str]:
        with self._lock:
            view = self._look()
            return sorted({*view.candidates, *view.registrations, *self._known_entry_points()} - self._class_only())

    def _class_only(self) -> set[str]:
        """Entry points that turned out to serve files only, and whose names no file has."""
        view = self._look()
        found = {name for name in self._known_entry_points() if name not in view.candidates}
        return {name for name in found if self._entry_point_module(name) is None} - set(view.registrations)

    def _try(self, name: str) -> Module | DescriptorError:
        try:
            return self.get(name)
        except DescriptorError as error:
            return error

    def _close(self, name: str) -> str | None:
        return next(iter(get_close_matches(name, self._names(), n=1)), None)

    def _build(self, view: View, name: str) -> Module:
        registration = view.registrations.get(name)
        candidates = view.candidates.get(name, [])
        chosen = self._choose(name, candidates)
        if chosen is None:
            raise UnknownModuleError(name, self._names(), suggestion=self._close(name))
        descriptor, file, origin = chosen
        if isinstance(descriptor, ModuleDescriptor):
            descriptor = resolve(descriptor, self._parent, where=str(file) if file else None)
        return Module(
            name=name,
            descriptor=descriptor,
            path=registration.path if registration else None,
            file=file,
            origin="registered" if registration else origin,
            hides=tuple(dict.fromkeys(item.file for item in candidates if item.file != file)),
            granted=registration.granted if registration else (),
            agreed_servers=registration.servers if registration else {},
            digest=content_digest(descriptor, name),
        )

    def _choose(self, name: str, candidates: Sequence[Candidate]) -> tuple[BaseDescriptor, Path | None, Origin] | None:
        """What counts as `name`, not yet resolved; DescriptorError where that is broken."""
        first = candidates[0] if candidates else None
        if first is None or first.origin == "shipped":
            descriptor = self._entry_point_module(name)
            if isinstance(descriptor, DescriptorError):
                raise DescriptorError(descriptor.problems, path=descriptor.path)  # anew: a kept one gathers tracebacks
            if descriptor is not None:
                return descriptor, None, "entry point"
        if first is None:
            return None
        if isinstance(first.content, DescriptorError):
            raise DescriptorError(first.content.problems, path=first.content.path)
        return first.content, first.file, first.origin

    def _parent(self, name: str) -> ModuleDescriptor | None:
        chosen = self._choose(name, self._look().candidates.get(name, []))
        return chosen[0] if chosen and isinstance(chosen[0], ModuleDescriptor) else None

    def _known_entry_points(self) -> dict[str, EntryPoint]:
        if self._entry_points is None:
            self._entry_points = found_entry_points()
        return self._entry_points

    def _entry_point_module(self, name: str) -> BaseDescriptor | DescriptorError | None:
        entry_point = self._known_entry_points().get(name)
        if entry_point is None:
            return None
        if name not in self._from_entry_points:
            try:
                self._from_entry_points[name] = module_of(entry_point)
            except DescriptorError as error:
                self._from_entry_points[name] = error
        return self._from_entry_points[name]

    def _registered(self, registrations: Registrations, name: str) -> Registration:
        registration = registrations.modules.get(name)
        if registration is None and name not in self._names():
            raise UnknownModuleError(name, self._names(), suggestion=self._close(name))
        if registration is None:
            file = self.get(name).file
            raise ConfigError(
                f"{name} is not registered; it comes from {file or 'an installed package'}. Change it there."
            )
        return registration

    def _described(
        self,
        name: str,
        before: Registration | None,
        file: Path | None,
        descriptor: ModuleDescriptor | None,
    ) -> Registration:
        """The registration with the descriptor that was given, or as before."""
        if file is not None and descriptor is not None:
            raise ConfigError(f"{name}: a descriptor and a descriptor file are given. Give one of them.")
        if file is not None:
            self._accept(name, load_descriptor(file), str(file))
            return (before or Registration()).model_copy(update={"file": file.absolute(), "written": None})
        if descriptor is not None:
            self._accept(name, descriptor, "the descriptor")
            return self._write(name, before, descriptor)
        return before or Registration()

    def _accept(self, name: str, descriptor: ModuleDescriptor, where: str) -> None:
        if descriptor.name != name:
            raise ConfigError(
                f"{where} describes {descriptor.name!r}, not {name!r}."
                f" Register it as {descriptor.name}, or rename it there."
            )
        resolve(descriptor, self._parent, where=where)

    def _write(self, name: str, before: Registration | None, descriptor: ModuleDescriptor) -> Registration:
        text = dump_descriptor(descriptor)
        if loads_descriptor(text) != descriptor:
            raise ConfigError(
                f"{type(descriptor).__name__} cannot be kept in a file. Set its `class` to its entry point."
            )
        file = private_dir(self._home / "descriptors") / f"{name}.yaml"
        ours = before.written if before is not None and before.file == file else None
        if _text_digest(file) not in (ours, None):
            raise ConfigError(f"{file} was written or edited by hand. Register it with --desc {file}, or move it away.")
        write_private(file, text)
        return (before or Registration()).model_copy(update={"file": file, "written": _text_digest(file)})


def _directory(path: Path | None) -> Path | None:
    if path is None:
        return None
    directory = path.expanduser().absolute()
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory. Give the module's own directory.")
    return directory


def _text_digest(file: Path) -> str | None:
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except FileNotFoundError:
        return None

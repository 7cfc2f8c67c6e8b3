"""What drafting may look at: files inside the module's path, few and small enough, none through a symlink."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.descriptors._file import read_bounded
from claude_comms.errors import DescriptorError
from claude_comms.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["python_files", "read_text"]

_MOST_FILES = 1_000
_MOST_ENTRIES = 20_000
_MAX_BYTES = 1024 * 1024

_SKIPPED = frozenset(
    "__pycache__ node_modules site-packages venv env virtualenv build dist egg-info test tests testing benchmark"
    " benchmarks doc docs example examples migrations vendor vendored _vendor third_party thirdparty extern".split()
)
_SKIPPED_FILES = frozenset({"conftest.py", "setup.py", "noxfile.py", "tasks.py", "fabfile.py", "__main__.py"})


def read_text(path: Path, *, max_bytes: int = _MAX_BYTES) -> str | None:
    """The text of a file, printable; None where it is no regular, readable, small enough UTF-8 file or a symlink."""
    if path.is_symlink():
        return None
    try:
        return printable(read_bounded(path, max_bytes).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, DescriptorError):
        return None


def python_files(root: Path) -> list[Path]:
    """The module's own public Python files, the shallow ones first; no tests, no private or foreign packages."""
    found: list[Path] = []
    for directory, files in _walk(root):
        found += [directory / name for name in files if _is_public(name)]
        if len(found) >= _MOST_FILES:
            break
    found.sort(key=lambda path: (len(path.parts), path.name != "__init__.py", str(path)))
    return found[:_MOST_FILES]


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Directories below `root`, level by level, each with the names of its regular files."""
    waiting, seen = [root], 0
    for directory in waiting:
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError:
            continue
        seen += len(entries)
        if seen > _MOST_ENTRIES:
            return
        names = {entry.name for entry in entries}
        if "pyvenv.cfg" in names:
            continue
        yield directory, [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        waiting += [
            Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False) and _is_own(entry.name)
        ]


def _is_own(name: str) -> bool:
    return name not in _SKIPPED and not name.startswith((".", "_")) and not name.endswith(".egg-info")


def _is_public(name: str) -> bool:
    if not name.endswith(".py") or name in _SKIPPED_FILES:
        return False
    if name.startswith("test_") or name.endswith("_test.py"):
        return False
    return name == "__init__.py" or not name.startswith("_")

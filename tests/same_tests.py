"""Tests of claude-code that hold for the bridge word for word: they are taken from there, and run over ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

_THERE = Path(__file__).parent / "process" / "claude_code"


def taken(file: str, names: Iterable[str], *, fixtures: Iterable[str] = ()) -> dict[str, Any]:
    """The tests of `file` by their names, and fixtures that they need; a name that is not there is an error."""
    path = _THERE / file
    spec = importlib.util.spec_from_file_location(f"same_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: getattr(module, name) for name in (*names, *fixtures)}

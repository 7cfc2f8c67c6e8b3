"""A home that is not there yet, and files to fill directories with."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from pathlib import Path


class Write(Protocol):
    """Writes a descriptor file and returns its path."""

    def __call__(self, directory: Path, file: str, text: str) -> Path: ...


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "not-there-yet" / "home"


@pytest.fixture
def write() -> Write:
    def write_file(directory: Path, file: str, text: str) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / file
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
        return path

    return write_file

"""Files of our state are private, and whole or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from claude_comms.errors import ConfigError
from claude_comms.files import make_private, private_dir, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """The process's umask, from before anything is made until the test is over."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.usefixtures("umask")
def test_directories_are_0700_whatever_the_umask(tmp_path: Path) -> None:
    home = private_dir(tmp_path / "home")
    inner = private_dir(home / "a" / "b")
    assert mode(home) == 0o700
    assert mode(inner) == mode(inner.parent) == 0o700
    (inner / "file").touch()


@pytest.mark.usefixtures("umask")
def test_files_are_0600_whatever_the_umask(tmp_path: Path) -> None:
    write_private(tmp_path / "written", "ä\n")
    make_private(tmp_path / "made")
    assert mode(tmp_path / "written") == mode(tmp_path / "made") == 0o600
    assert (tmp_path / "written").read_bytes() == "ä\n".encode()


def test_what_others_could_read_is_made_private(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "file").write_text("kept")
    (tmp_path / "file").chmod(0o644)
    private_dir(tmp_path / "home")
    make_private(tmp_path / "file")
    assert (mode(tmp_path / "home"), mode(tmp_path / "file")) == (0o700, 0o600)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    reader = path.open()
    write_private(path, "new")
    assert (reader.read(), path.read_text()) == ("old", "new")
    reader.close()
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_private(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file.*CLAUDE_COMMS_HOME"):
        private_dir(tmp_path / "file")
    with pytest.raises(ConfigError, match="CLAUDE_COMMS_HOME"):
        private_dir(tmp_path / "file" / "below")

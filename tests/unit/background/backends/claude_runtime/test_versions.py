"""A binary is asked for its version once, by whichever process meets it first, and again when it is another file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.claude_runtime.versions import Versions
from claude_comms.errors import BackendUnavailableError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home" / "claude-code" / "versions.json"


def claude(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\necho run >> '{path}.runs'\n{script}\n")
    path.chmod(0o755)
    return path


def runs(binary: Path) -> int:
    return len(binary.with_name(f"{binary.name}.runs").read_text().splitlines())


def test_another_process_believes_what_was_learned_and_nobody_else_may_read_it(tmp_path: Path, file: Path) -> None:
    binary = claude(tmp_path / "claude", "echo 2.1.400")
    assert [Versions(file).accepted(binary) for _ in range(3)] == [(2, 1, 400)] * 3
    assert runs(binary) == 1
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_an_updated_binary_is_asked_again(tmp_path: Path, file: Path) -> None:
    binary = claude(tmp_path / "claude", "echo 2.1.100")
    versions = Versions(file)
    with pytest.raises(BackendUnavailableError, match=r"2\.1\.100, and 2\.1\.329 or later is needed"):
        versions.accepted(binary)
    before = binary.stat()
    claude(binary, "echo 2.1.500")  # as long as it was
    os.utime(binary, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert versions.accepted(binary) == (2, 1, 500)
    assert Versions(file).accepted(binary) == (2, 1, 500)
    assert runs(binary) == 2


def test_a_problem_is_believed_for_a_while_and_not_for_good(tmp_path: Path, file: Path) -> None:
    binary = claude(tmp_path / "claude", f"test -e '{tmp_path}/ready' && echo 2.1.400")
    for _ in range(2):
        with pytest.raises(BackendUnavailableError, match="does not answer as Claude Code"):
            Versions(file, clock=lambda: 1_000_000.0).accepted(binary)
    assert runs(binary) == 1
    (tmp_path / "ready").touch()
    assert Versions(file, clock=lambda: 1_000_601.0).accepted(binary) == (2, 1, 400)


def test_doctor_runs_it_whatever_is_known_and_tells_the_others(tmp_path: Path, file: Path) -> None:
    binary = claude(tmp_path / "claude", f"test -e '{tmp_path}/ready' && echo 2.1.400")
    versions = Versions(file)
    with pytest.raises(BackendUnavailableError):
        versions.accepted(binary)
    (tmp_path / "ready").touch()
    assert Versions(file).accepted(binary, fresh=True) == (2, 1, 400)
    assert Versions(file).accepted(binary) == (2, 1, 400)
    assert runs(binary) == 2


def test_doctor_makes_no_file(tmp_path: Path, file: Path) -> None:
    Versions(file).accepted(claude(tmp_path / "claude", "echo 2.1.400"), fresh=True)
    assert not file.parent.exists()


def test_two_binaries_are_kept_apart(tmp_path: Path, file: Path) -> None:
    one, other = claude(tmp_path / "one", "echo 2.1.400"), claude(tmp_path / "other", "echo 2.1.401")
    for versions in (Versions(file), Versions(file)):
        assert (versions.accepted(one), versions.accepted(other)) == ((2, 1, 400), (2, 1, 401))
    assert (runs(one), runs(other)) == (1, 1)


@pytest.mark.parametrize("content", ["", "{", "[1]", "[" * 100_000, '{"PATH": {"state": [1]}}', '{"PATH": 5}'])
def test_a_damaged_file_costs_a_look_and_is_written_anew(tmp_path: Path, file: Path, content: str) -> None:
    binary = claude(tmp_path / "claude", "echo 2.1.400")
    file.parent.mkdir()
    file.write_text(content.replace("PATH", str(binary)))
    assert Versions(file).accepted(binary) == (2, 1, 400)
    assert str(binary) in json.loads(file.read_text())


def test_without_a_home_nothing_is_written(tmp_path: Path) -> None:
    binary = claude(tmp_path / "claude", "echo 2.1.400")
    assert Versions(tmp_path / "none" / "claude-code" / "versions.json").accepted(binary) == (2, 1, 400)
    assert not (tmp_path / "none").exists()


def test_a_file_that_cannot_be_written_is_done_without(tmp_path: Path, file: Path) -> None:
    binary = claude(tmp_path / "claude", "echo 2.1.400")
    file.parent.write_text("not a directory")
    assert Versions(file).accepted(binary) == (2, 1, 400)

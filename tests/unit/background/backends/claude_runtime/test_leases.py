"""The right to use a session, and the files that it leaves."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.claude_runtime.leases import Leases

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path)


def old(path: Path) -> Path:
    """The file, as if nobody had taken its lease for two hours."""
    two_hours_ago = time.time() - 7200
    os.utime(path, (two_hours_ago, two_hours_ago))
    return path


def test_one_at_a_time_has_a_session(leases: Leases) -> None:
    first, second = leases.of("one"), leases.of("one")
    assert first.take()
    assert first.take()
    assert not second.take()
    assert (first.held_here, second.held_here) == (True, True)
    assert leases.of("two").take()
    first.release()
    first.release()
    assert second.take()
    assert not first.take()
    second.release()
    assert not first.held_here


def test_only_what_nobody_holds_and_nobody_has_taken_for_an_hour_is_swept(leases: Leases, tmp_path: Path) -> None:
    held, young, left = (leases.of(name) for name in ("held", "young", "left"))
    for lease in (held, young, left):
        assert lease.take()
    young.release()
    left.release()
    old(tmp_path / "held.lock")
    old(tmp_path / "left.lock")
    leases.sweep()
    assert {path.name for path in tmp_path.iterdir()} == {"held.lock", "young.lock"}
    assert not leases.of("held").take()
    assert left.take()
    left.release()
    held.release()


def test_a_lease_that_is_taken_is_young_again(leases: Leases, tmp_path: Path) -> None:
    lease = leases.of("one")
    assert lease.take()
    lease.release()
    old(tmp_path / "one.lock")
    assert lease.take()
    lease.release()
    leases.sweep()
    assert (tmp_path / "one.lock").exists()

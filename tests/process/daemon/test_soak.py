"""The soak of ``benchmarks/soak.py``, short: nothing acknowledged is lost, whatever is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import claude_comms

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

ROUNDS = int(os.environ.get("CLAUDE_COMMS_SOAK_ROUNDS", "4"))
TREE = Path(__file__).parents[3]
FOR_ALL_S, EACH_S = 240, 60


@pytest.mark.timeout(FOR_ALL_S + EACH_S * ROUNDS)
def test_random_kills_lose_double_and_leave_nothing() -> None:
    imported = Path(claude_comms.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(TREE / "benchmarks" / "soak.py"), "--rounds", str(ROUNDS), "--stored", "1000"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(imported), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        timeout=FOR_ALL_S + EACH_S * ROUNDS - 10,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert f"rounds: {ROUNDS}" in done.stdout

"""However our process ends, nothing of a process tree is left: not Claude Code, not what its Bash had started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_comms.testing import Answer, LoopbackAPI, ToolUse

if TYPE_CHECKING:
    from claude_comms.testing import RecordedRequest

HERE = Path(__file__).parent
WITHIN_S = 10.0


def ours(mark: str) -> set[int]:
    """All processes that have `mark` in their environment."""
    found: set[int] = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in environment.read_bytes():
                found.add(int(environment.parent.name))
        except OSError:
            continue
    return found


def script(request: RecordedRequest) -> Answer:
    """The first question starts two processes that want to outlive everything; the second is never answered."""
    if "started" in str(request.body["messages"][-1]):
        return Answer("done")
    if request.question.endswith("second"):
        return Answer("never", delay_s=3600)
    command = "setsid sleep 4242 >/dev/null 2>&1 & (trap '' TERM HUP INT; sleep 4242) & disown -a; echo started"
    return Answer(blocks=(ToolUse("Bash", {"command": command, "description": "x"}),))


@pytest.mark.parametrize(
    ("ending", "number"),
    [("wait", signal.SIGKILL), ("wait", signal.SIGINT), ("wait", signal.SIGTERM), ("raise", None)],
)
def test_nothing_is_left_within_ten_seconds(ending: str, number: signal.Signals | None, tmp_path: Path) -> None:
    (tmp_path / "module").mkdir()
    mark = str(tmp_path / "home" / "claude-code")
    with LoopbackAPI(script) as api:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "asking_with_bash.py"), api.base_url, str(tmp_path / "home"),
             str(tmp_path / "module"), ending],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent.parent), *sys.path])},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        if number is not None:
            assert len(ours(mark)) >= 4
            process.send_signal(number)
        process.wait(WITHIN_S)
        process.stdout.close()
        until = time.monotonic() + WITHIN_S
        while ours(mark) and time.monotonic() < until:
            time.sleep(0.01)
        assert ours(mark) == set()

"""A program that forgets to close its communicator ends all the same, and its turn is marked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import claude_comms
from claude_comms import create_communicator
from claude_comms.types import MessageState

ONE_LINE = """
from claude_comms import create_communicator
print(create_communicator("marker", backend="offline").send_message(target="arangodb", prompt="page blocks").backend)
"""
IN_A_TURN = """
from claude_comms import create_communicator
from claude_comms.testing.scripted import ScriptedBackend, Stall
stream = create_communicator("marker", backend=ScriptedBackend([Stall(after="half")])).stream_message("arangodb", "one")
print(next(iter(stream)))
"""


def run(code: str, home: Path) -> str:
    ours = {"CLAUDE_COMMS_HOME": str(home), "PYTHONPATH": str(Path(claude_comms.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**ours, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_the_one_line_program_ends(tmp_path: Path) -> None:
    assert run(ONE_LINE, tmp_path) == "offline"


def test_a_turn_under_way_at_the_programs_end_is_stored_as_what_it_was(tmp_path: Path) -> None:
    assert run(IN_A_TURN, tmp_path) == "half"
    with create_communicator("marker", backend="offline", settings={"home": tmp_path}) as comm:
        (listed,) = comm.list_conversations()
        states = [message.state for message in comm.get_conversation(listed.thread_id).messages]
    assert states == [MessageState.FAILED, MessageState.PARTIAL]

"""kill -9 of a process that stores turns: nothing that it was told is stored may be missing."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from claude_comms.conversations import ConversationStore
from claude_comms.errors import InstanceStateError
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import MessageState, Pair, Role

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

PAIR = Pair("marker", "arangodb")
_ROUNDS = 30
_ASK_FOR_EVER = """
import sys
import anyio
from pathlib import Path
from claude_comms.conversations import ConversationStore
from claude_comms.storage import Database, OwnerLock
from claude_comms.types import Pair

async def converse(store, number):
    thread = None
    while True:
        question = await store.begin_turn(
            thread_id=thread, pair=Pair("marker", "arangodb"), text=f"q {number}", sent_text="sent"
        )
        thread = question.thread_id
        print("question", thread, question.message_id, flush=True)
        answer = await store.complete_turn(question.message_id, text="a", model="m", backend="b")
        print("answer", thread, answer.message_id, flush=True)

async def main():
    database = Database(Path(sys.argv[1]))
    await database.open()
    owner = OwnerLock(database.path)
    owner.acquire()
    store = ConversationStore(database, owner)
    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(converse, store, number)

anyio.run(main)
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def _acknowledged_by_a_killed_child(path: Path, lines: int) -> list[list[str]]:
    """Run a child, kill it somewhere after its line number `lines`, and return all the whole lines it printed."""
    with subprocess.Popen([sys.executable, "-c", _ASK_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        printed = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        printed += child.stdout.readlines()
        assert child.wait(10) == -signal.SIGKILL
    return [line.split() for line in printed if line.endswith("\n")]


@pytest.mark.timeout(300)
async def test_every_acknowledged_message_survives_kill_9_at_random_moments(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    chance = random.Random(20261121)
    left_pending = 0
    async with Database(path) as database:
        me = OwnerLock(path)
        me.acquire()
        store = ConversationStore(database, me)
        mine = await store.begin_turn(thread_id=None, pair=PAIR, text="mine", sent_text="mine")
        for _ in range(_ROUNDS):
            lines = chance.randrange(1, 60)
            acknowledged = await anyio.to_thread.run_sync(_acknowledged_by_a_killed_child, path, lines)
            assert len(acknowledged) >= lines
            marked = {message.message_id for message in await store.mark_abandoned()}
            left_pending += len(marked)
            states: dict[str, MessageState] = {}
            for thread_id in {thread_id for _, thread_id, _ in acknowledged}:
                messages = (await store.get(thread_id)).messages
                assert [message.position for message in messages] == list(range(len(messages)))
                states |= {message.message_id: message.state for message in messages}
                assert len(await store.history(thread_id)) == 2 * sum(item.role is Role.ANSWER for item in messages)
            for kind, _, message_id in acknowledged:
                if kind == "answer":
                    assert states[message_id] is MessageState.COMPLETE
                else:
                    assert states[message_id] is (
                        MessageState.FAILED if message_id in marked else MessageState.COMPLETE
                    )
            assert MessageState.PENDING not in states.values()
        assert left_pending > 0, "no kill came between a question and its answer"
        with pytest.raises(InstanceStateError):  # a living owner's question was never touched
            await store.begin_turn(thread_id=mine.thread_id, pair=PAIR, text="more", sent_text="more")
        me.release()

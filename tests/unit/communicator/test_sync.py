"""The synchronous face: the same methods, from any thread, and Ctrl-C gets out."""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING

import pytest

from claude_comms import AsyncCommunicator, ModuleCommunicator, create_communicator
from claude_comms.errors import ConfigError, TurnFailedError
from claude_comms.testing.scripted import ScriptedBackend, Stall
from claude_comms.types import MessageState

if TYPE_CHECKING:
    from pathlib import Path


def public_methods(kind: type) -> set[str]:
    return {name for name, value in inspect.getmembers(kind) if callable(value) and not name.startswith("_")}


def test_both_faces_have_the_same_methods_with_the_same_arguments() -> None:
    ours = public_methods(AsyncCommunicator)
    assert ours <= public_methods(ModuleCommunicator)
    for name in ours:
        mine, theirs = getattr(ModuleCommunicator, name), getattr(AsyncCommunicator, name)
        assert inspect.signature(mine).parameters == inspect.signature(theirs).parameters, name
        assert mine.__doc__, name


def test_a_question_is_answered_and_streamed(claude_comms_home: Path) -> None:
    with create_communicator("marker", backend=ScriptedBackend(), settings={"home": claude_comms_home}) as comm:
        reply = comm.send_message(target="arangodb", prompt="one")
        stream = comm.stream_message(target="arangodb", prompt="two and more")
        assert "".join(stream) == stream.reply.response == "two and more"
        assert stream.reply.thread_id == reply.thread_id


def test_several_threads_may_use_one_communicator(claude_comms_home: Path) -> None:
    replies: list[str] = []
    with create_communicator("marker", backend=ScriptedBackend(), settings={"home": claude_comms_home}) as comm:

        def ask(number: int) -> None:
            replies.append(comm.send_message(target="arangodb", prompt=f"question {number}").response)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(replies) == [f"question {number}" for number in range(8)]
        (conversation,) = comm.list_conversations()
        assert conversation.message_count == 16


def test_an_exception_in_the_loop_over_pieces_leaves_the_turn_to_be_interrupted(claude_comms_home: Path) -> None:
    backend = ScriptedBackend([Stall(after="half")])
    with create_communicator("marker", backend=backend, settings={"home": claude_comms_home}) as comm:
        stream = comm.stream_message(target="arangodb", prompt="one")
        try:
            for _ in stream:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            stream.interrupt()
        with pytest.raises(TurnFailedError, match="interrupted"):
            _ = stream.reply
        (listed,) = comm.list_conversations()
        states = [message.state for message in comm.get_conversation(listed.thread_id).messages]
    assert states == [MessageState.FAILED, MessageState.PARTIAL]


def test_closing_twice_is_closing_once_and_nothing_is_asked_after_it(claude_comms_home: Path) -> None:
    comm = create_communicator("marker", backend="offline", settings={"home": claude_comms_home})
    comm.send_message(target="arangodb", prompt="page blocks")
    comm.close()
    comm.close()
    with pytest.raises(ConfigError, match="closed"):
        comm.send_message(target="arangodb", prompt="page blocks")
    comm.close()


def test_closed_before_its_first_use_is_closed(claude_comms_home: Path) -> None:
    comm = create_communicator("marker", backend="offline", settings={"home": claude_comms_home})
    comm.close()
    with pytest.raises(ConfigError, match="closed"):
        comm.stream_message(target="arangodb", prompt="page blocks")


def test_no_thread_is_left_behind(claude_comms_home: Path) -> None:
    before = set(threading.enumerate())
    with create_communicator("marker", backend="offline", settings={"home": claude_comms_home}) as comm:
        comm.send_message(target="arangodb", prompt="page blocks")
    left = {thread.name for thread in set(threading.enumerate()) - before if not thread.daemon}
    assert left <= {"claude-comms closer"}

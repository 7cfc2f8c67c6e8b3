"""A client of the soak: asks through the daemon until SIGTERM, and prints what it was told, one JSON document a line.

    python _soak_client.py ask NAME BACKEND TARGET      or      python _soak_client.py follow

``asked``: the question is stored. ``answered``: the reply is there. ``failed``: it was told an error. A follower prints
``seq`` of each event, ``missed`` where it was told of a gap, ``broken`` where it was told that it must begin anew.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import json
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from claude_comms import AsyncCommunicator
from claude_comms.communicator import AsyncBackground
from claude_comms.errors import ClaudeCommsError
from claude_comms.events import Event
from claude_comms.types import Delta, Retried, Started

QUESTIONS_IN_A_CONVERSATION = 4
AFTER_A_FAILURE_S = 0.05


def say(**document: Any) -> None:
    """Print it whole, at once: what is printed is what counts as acknowledged."""
    os.write(1, (json.dumps(document) + "\n").encode())


async def ask_for_ever(name: str, backend: str, target: str, stopped: asyncio.Event) -> None:
    """One question after another, each text once."""
    async with AsyncCommunicator("marker", backend=backend, settings={"deadline_s": 60}, use_background=True) as comm:
        for number in itertools.count():
            if stopped.is_set():
                return
            question = f"q-{name}-{number}"
            say(asking=question)
            try:
                if number % QUESTIONS_IN_A_CONVERSATION == 0:
                    await comm.create_conversation(target)
                await ask(comm, target, question)
            except ClaudeCommsError as error:
                say(failed=question, type=type(error).__name__, thread_id=error.thread_id, message=str(error))
                await asyncio.sleep(AFTER_A_FAILURE_S)


async def ask(comm: AsyncCommunicator, target: str, question: str) -> None:
    """Ask it, and tell what comes."""
    streamed = ""
    async with comm.stream_message(target, question) as stream:
        async for event in stream.events():
            match event:
                case Started():
                    say(asked=question, thread_id=event.thread_id)
                case Delta():
                    streamed += event.text
                case Retried():
                    say(retried=question)
                case _:
                    pass
        reply = stream.reply
    say(answered=question, message_id=reply.message_id, text=reply.response, streamed=streamed)


async def follow(stopped: asyncio.Event) -> None:
    """Every event, from the first on; resumed at the cursor where it was told that the daemon is gone."""
    cursor = 0
    async with AsyncBackground() as background:
        while not stopped.is_set():
            try:
                async with background.follow(after=cursor) as events:
                    async for event in events:
                        if isinstance(event, Event):
                            cursor = event.seq
                            say(seq=cursor)
                        else:
                            say(missed=[event.first, event.last, event.reason])
            except ClaudeCommsError as error:
                say(broken=str(error))


async def main(arguments: list[str]) -> None:
    """Until SIGTERM; a follower ends at once, an asker after its question."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # where a client stands that seems to hang
    if arguments[0] == "ask":
        _, name, backend, target = arguments
        await ask_for_ever(name, backend, target, stopped)
        return
    following = asyncio.create_task(follow(stopped))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (following, stopping):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await following


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))

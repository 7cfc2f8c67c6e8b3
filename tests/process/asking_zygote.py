"""A process that has everything imported and forks askers on demand, so that many kills take seconds, not minutes.

Reads paths of pipes from stdin, forks an asker for each, and prints its pid, then ``dead`` when it has ended. An asker
asks one question after another and writes to its pipe what was acknowledged: ``asked THREAD_ID`` once the question is
stored, ``answered MESSAGE_ID`` once the reply is there.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from importlib import import_module

from claude_comms import AsyncCommunicator
from claude_comms.types import Started

for heavy in ("anthropic", "claude_comms.background.backends.messages_api", "claude_comms.engine"):
    import_module(heavy)


async def ask_for_ever(report: int) -> None:
    async with AsyncCommunicator("marker", backend="api") as comm:
        for number in itertools.count():
            stream = comm.stream_message(target="arangodb", prompt=f"question {number} of {os.getpid()}")
            async for event in stream.events():
                if isinstance(event, Started):
                    os.write(report, f"asked {event.thread_id}\n".encode())
            os.write(report, f"answered {stream.reply.message_id}\n".encode())


def main() -> None:
    for line in iter(sys.stdin.readline, ""):
        report = os.open(line.strip(), os.O_WRONLY)
        pid = os.fork()
        if pid == 0:
            asyncio.run(ask_for_ever(report))
        os.close(report)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main()

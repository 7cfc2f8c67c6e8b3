"""Run by the tests: a program that asks through the daemon, one question for each line of its stdin.

An empty line begins another conversation. It prints JSON documents, one a line: each piece of an answer as it comes,
then the reply or the error.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from claude_comms import create_communicator
from claude_comms.errors import ClaudeCommsError


def say(**document: Any) -> None:
    print(json.dumps(document), flush=True)


def main(source: str, target: str) -> None:
    with create_communicator(source, use_background=True) as comm:
        for line in iter(sys.stdin.readline, ""):
            try:
                if line == "\n":
                    comm.create_conversation(target)
                    continue
                stream = comm.stream_message(target, line.rstrip("\n"))
                for piece in stream:
                    say(piece=piece)
                say(reply=stream.reply.as_dict())
            except ClaudeCommsError as error:
                say(error=error.as_dict())


if __name__ == "__main__":
    main(*sys.argv[1:])

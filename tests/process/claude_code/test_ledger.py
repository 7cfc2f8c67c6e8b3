"""What the store says was spent, against what the API says it told: over clears, resumes, interrupts and kills."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from claude_code_support import descendants, last_line

from claude_comms import AsyncCommunicator
from claude_comms.descriptors import Registry
from claude_comms.errors import BackendCrashedError, TurnFailedError
from claude_comms.settings import Settings
from claude_comms.testing import Answer, Fault, LoopbackAPI
from claude_comms.testing._wire import LAST_CHUNK, Exchange, Send, Step, Wait, chunk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from claude_comms.testing import RecordedRequest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

TURNS = int(os.environ.get("CLAUDE_COMMS_LEDGER_TURNS", "60"))
"""The report's figures come from 300."""

NAMES = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
}


def counting(billed: Counter[str]) -> Fault:
    """No fault at all, but the API keeps count of what it tells the client, event by event."""

    def steps(exchange: Exchange) -> Iterator[Step]:
        usage = exchange.usage()
        yield Send(exchange.head)
        for piece in exchange.pieces():
            if piece.pause_s:
                yield Wait(piece.pause_s)
            if b"event: message_start" in piece.data:
                billed.update({**{NAMES[name]: usage[name] for name in NAMES}, "output_tokens": 1})
            elif b"event: message_delta" in piece.data:
                billed["output_tokens"] += usage["output_tokens"] - 1
            yield Send(chunk(piece.data))
        yield Send(LAST_CHUNK)

    return Fault("counting", steps)


def script(request: RecordedRequest) -> Answer:
    """Questions that say so are answered with two words, and then nothing for an hour."""
    if any("slow" in line for line in (request.thread[-1][1] if request.thread else "").splitlines()[-2:]):
        return Answer(pieces=("two ", "words ", "more"), pause_s=(0, 0, 3600))
    return Answer(f"Answer to {last_line(request)} " * 3)


async def test_the_stores_sum_equals_the_apis_own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    registry = Registry(tmp_path / "home", ())
    for name in ("marker", "arangodb"):
        (tmp_path / name).mkdir()
        registry.register(name, path=tmp_path / name)
    billed: Counter[str] = Counter()
    done: Counter[str] = Counter()
    chance = random.Random(300)
    before = descendants()
    with LoopbackAPI(script) as api:
        api.fail(counting(billed), 100_000)
        settings = Settings.load(
            {
                "home": tmp_path / "home",
                "backend": "claude-code",
                "anthropic_api_key": api.key,
                "anthropic_base_url": api.base_url,
            }
        )
        comm = AsyncCommunicator("marker", settings=settings)
        thread: str | None = None
        for number in range(TURNS):
            what = chance.choices(("ask", "clear", "resume", "interrupt", "kill"), (70, 14, 4, 9, 3))[0]
            done[what] += 1
            if what == "clear":
                thread = await comm.create_conversation("arangodb")
            if what == "resume":
                await comm.close()
                comm = AsyncCommunicator("marker", settings=settings)
            if what in ("interrupt", "kill"):
                stream = comm.stream_message("arangodb", f"slow {number}", thread_id=thread)
                with pytest.raises(TurnFailedError if what == "interrupt" else BackendCrashedError):
                    async for piece in stream:
                        if "words" in piece and what == "kill":
                            os.kill(max(descendants() - before), signal.SIGKILL)
                        elif "words" in piece:
                            await stream.interrupt()
                    await stream.wait()
                continue
            thread = (await comm.send_message("arangodb", f"question {number}", thread_id=thread)).thread_id
        spent: Counter[str] = Counter()
        for conversation in await comm.list_conversations(limit=1000):
            for message in (await comm.get_conversation(conversation.thread_id)).messages:
                if message.usage is not None:
                    spent.update({name: message.usage[name] for name in NAMES.values()})
        await comm.close()
    assert set(done) == {"ask", "clear", "resume", "interrupt", "kill"}
    assert dict(spent) == dict(billed)
    assert descendants() <= before

"""What crosses the language boundary: long texts, odd ones, and a reader that is slow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from claude_code_support import Talk

from claude_comms.errors import BackendProtocolError, TurnFailedError
from claude_comms.testing import Answer
from claude_comms.types import Delta

if TYPE_CHECKING:
    from claude_comms.background.backends.mcp_bridge._own import OwnBridge
    from claude_comms.background.backends.mcp_bridge._session import BridgeSession
    from claude_comms.testing import LoopbackAPI
    from claude_comms.types import TurnEvent, TurnResult

pytestmark = pytest.mark.anyio

MB = 1024 * 1024
LINE = "An ordinary line with 64 characters, emoji \U0001f600 and an e\u0301 in it....\n"


LONG = LINE * (10 * MB // len(LINE))


async def test_an_answer_of_ten_megabytes_crosses_unchanged(talk: Talk, api: LoopbackAPI) -> None:
    api.answer(Answer(pieces=tuple(LONG[at : at + 50_000] for at in range(0, len(LONG), 50_000))))
    assert (await talk.ask("one")).text == LONG


async def test_a_question_of_ten_megabytes_reaches_claude_code_which_knows_that_no_model_takes_it(
    talk: Talk, session: BridgeSession
) -> None:
    await talk.ask("one")
    pid = session.pid
    with pytest.raises(TurnFailedError, match="Prompt is too long") as raised:
        await Talk(session).ask(LONG)
    assert (raised.value.partial, session.pid) == ("", pid)


async def test_a_question_of_forty_megabytes_is_refused_before_it_is_sent(talk: Talk, session: BridgeSession) -> None:
    await talk.ask("one")
    with pytest.raises(BackendProtocolError, match="longer than the bridge takes"):
        await talk.ask(LONG * 4)
    assert (await talk.ask("two")).text == "Answer to two"


@pytest.mark.parametrize("text", ["\x00\x01\x1f\x7f\u2028\u2029\ufffe", "NaN", "1e999"])
async def test_an_odd_answer_comes_as_the_model_wrote_it(text: str, talk: Talk, api: LoopbackAPI) -> None:
    api.answer(Answer(pieces=("<", text, ">")))
    assert (await talk.ask("one")).text == f"<{text}>"


async def test_half_characters_in_an_answer_are_replaced_for_they_cannot_be_stored(
    talk: Talk, api: LoopbackAPI
) -> None:
    api.answer(Answer(pieces=("<a\ud800b", "\udc00\ud800", "\U0001f600>")))
    assert (await talk.ask("one")).text == "<a\ufffdb\ufffd\ufffd\U0001f600>"


async def test_an_odd_question_is_answered(talk: Talk, api: LoopbackAPI) -> None:
    assert (await talk.ask("a\ud800b \x00 \u2028")).text.startswith("Answer to")
    assert len(api.requests.messages) == 1


async def test_a_slow_reader_keeps_the_bridge_small_and_gets_everything(
    talk: Talk, backend: OwnBridge, api: LoopbackAPI
) -> None:
    piece, count = "x" * 50_000, 600
    client = await backend.link.client()

    async def memory() -> int:
        """The most that the bridge has within 20 looks at it."""
        looks = [await client.call("health", {}, timeout_s=10) for _ in range(20)]
        return max(int(look["rss_bytes"]) for look in looks)

    api.answer(Answer(pieces=(piece,) * count))
    await talk.ask("one")  # what Node itself takes for so much, it has from now on
    before = await memory()
    api.answer(Answer(pieces=(piece,) * count))
    first, go_on = anyio.Event(), anyio.Event()
    held: list[int] = []
    results: list[TurnResult] = []

    async def emit(event: TurnEvent) -> None:
        if isinstance(event, Delta):
            first.set()
            await go_on.wait()

    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await first.wait()
            held.extend([await memory() for _ in range(20)])
            go_on.set()

        tasks.start_soon(watch)
        # Another conversation: this one has grown so long that Claude Code would make it shorter first.
        results.append(await talk.session.ask(Talk(talk.session).request("two"), emit))
    assert [result.text for result in results] == [piece * count]
    # 30 MB were to be had. The bridge may hold a piece and what its pipe holds; the rest is its garbage.
    assert max(held) - before < 15 * MB

"""Our half over a bridge that says what a good one never would, or not yet: what is believed, checked, waited for."""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from claude_code_support import MODEL, READING, Talk, descendants
from played_bridge import PlayedBridge, PlayedTurn, RefusedRequestError
from websockets.asyncio.server import serve

from claude_comms.background.backends.claude_runtime.orphans import MARK
from claude_comms.background.backends.mcp_bridge import _link
from claude_comms.background.backends.mcp_bridge._link import StormLimit
from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.background.backends.mcp_bridge._session import Limits
from claude_comms.errors import (
    BackendCrashedError,
    BackendProtocolError,
    BackendUnavailableError,
    BudgetExceededError,
    DeadlineExceededError,
)
from claude_comms.mcp_servers import McpServer
from claude_comms.settings import Settings
from claude_comms.types import Delta, InstanceSpec, Pair, Retried, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from claude_comms.background.backends.mcp_bridge._session import BridgeSession

pytestmark = pytest.mark.anyio

PROGRAM = Path(__file__).with_name("announcing_program.py")


@pytest.fixture
async def played(tmp_path: Path) -> AsyncIterator[PlayedBridge]:
    made = PlayedBridge(tmp_path / "record.jsonl")
    protocol: Any = "claude-comms.bridge.v1"
    async with serve(made.handle, "127.0.0.1", 0, subprotocols=[protocol], process_request=made.refuse) as listening:
        made.port = next(iter(listening.sockets)).getsockname()[1]
        yield made
    for process in made.processes:
        process.kill()
        process.wait()


@pytest.fixture
async def over(played: PlayedBridge, tmp_path: Path) -> AsyncIterator[Callable[..., OwnBridge]]:
    """Makes backends over the played bridge. The test fails if a process, or a scratch folder, outlives them."""
    before, made = descendants(), list[OwnBridge]()

    def make(port: int | None = None, servers: dict[str, McpServer] | None = None, **more: Any) -> OwnBridge:
        words = (str(PROGRAM), str(played.port if port is None else port), str(played.record))
        values: dict[str, Any] = {"anthropic_api_key": "any", "anthropic_base_url": "http://127.0.0.1:9"}
        values |= {"bridge_command": (sys.executable, *words), "mcp_servers": servers or {}}
        settings = Settings(home=tmp_path / "home", **values)
        made.append(OwnBridge(settings, **more))
        return made[-1]

    yield make
    for backend in made:
        await backend.close()
    assert descendants() - {process.pid for process in played.processes} <= before
    assert list((tmp_path / "home" / "claude-code" / "scratch").glob("*")) == []


@pytest.fixture
def spec(tmp_path: Path) -> InstanceSpec:
    return InstanceSpec(Pair("marker", "arangodb"), "bridge", MODEL, READING, tmp_path)


@pytest.fixture
async def session(over: Callable[..., OwnBridge], spec: InstanceSpec) -> BridgeSession:
    return await over().open(spec)


# --- what it says is held against what it said ---


async def test_a_piece_out_of_order_is_no_part_of_an_answer(session: BridgeSession, played: PlayedBridge) -> None:
    async def skip(turn: PlayedTurn) -> None:
        await turn.tell("turn.delta", piece=0, text="one")
        await turn.tell("turn.delta", piece=2, text="three")
        await turn.end(2)

    played.on_credit = skip
    with pytest.raises(BackendProtocolError, match="sent piece 2 of the answer in place of 1") as raised:
        await Talk(session).ask("one")
    assert raised.value.partial == "one"
    assert session.pid is None


async def test_an_answer_of_which_pieces_are_missing_is_none(session: BridgeSession, played: PlayedBridge) -> None:
    async def lose(turn: PlayedTurn) -> None:
        await turn.tell("turn.delta", piece=0, text="one")
        await turn.end(3)

    played.on_credit = lose
    with pytest.raises(BackendProtocolError, match="had 3 pieces, and 1 came"):
        await Talk(session).ask("one")


async def test_another_session_than_was_asked_for_is_not_taken(session: BridgeSession, played: PlayedBridge) -> None:
    other = "0b7a3f0e-3a52-4d8e-9d6c-0d2b8a1c7e55"
    played.methods["open"] = lambda _: {"session": other, "pid": None, "servers": []}
    with pytest.raises(BackendProtocolError, match="another session"):
        await Talk(session).ask("one")
    assert played.asked("turn") == []


# --- what a turn spends and allows ---


async def test_a_turn_that_does_not_end_when_it_is_interrupted_costs_its_process(
    session: BridgeSession, played: PlayedBridge
) -> None:
    async def go_on(turn: PlayedTurn) -> None:
        await turn.tell("turn.delta", piece=0, text="one")

    played.on_credit = go_on
    with pytest.raises(DeadlineExceededError) as raised:
        await Talk(session).ask("one", deadline=anyio.current_time() + 2.0)
    assert raised.value.partial == "one"
    assert len(played.asked("interrupt")) > 1
    assert len(played.asked("close")) == 1
    assert session.pid is None


async def test_what_is_spent_is_checked_while_the_turn_runs_and_told_when_it_was_too_much(
    session: BridgeSession, played: PlayedBridge
) -> None:
    request = {"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 3, "cache_write_tokens": 2}

    async def spend(turn: PlayedTurn) -> None:
        await turn.tell("turn.delta", piece=0, text="one")
        for count in (1, 2):
            await turn.tell("turn.spent", requests=[{**request, "cost_usd": None}] * count)

    seen: list[int] = []

    def check(requests: Sequence[Usage]) -> None:
        seen.append(len(requests))
        if len(requests) > 1:
            raise BudgetExceededError("too much.", budget="max_cost_usd", limit=1.0, spent=2.0)

    def interrupt(params: dict[str, Any]) -> object:
        interrupted.append(params["turn"])
        return {}

    interrupted: list[str] = []
    played.on_credit, played.methods["interrupt"] = spend, interrupt
    with pytest.raises(BudgetExceededError) as raised:
        await Talk(session).ask("one", check_spent=check)
    assert seen == [1, 2]
    assert set(interrupted) == set(played.turns)
    assert raised.value.usage == Usage(20, 10, 6, 4, None)


async def test_no_more_is_allowed_than_the_window_holds_and_always_as_much_as_was_taken(
    session: BridgeSession, played: PlayedBridge
) -> None:
    async def answer(turn: PlayedTurn) -> None:
        async def go() -> None:
            for piece in range(300):
                with anyio.fail_after(10):
                    while sum(played.credits) <= piece:
                        await anyio.sleep(0.001)
                assert sum(played.credits) - piece <= turn.params["window"] == 32
                await turn.tell("turn.delta", piece=piece, text=f"{piece} ")
            await turn.end(300)

        tasks.start_soon(go)

    played.on_credit = answer
    talk = Talk(session)
    async with anyio.create_task_group() as tasks:
        await talk.ask("one")
    assert talk.history[-1].text == "".join(f"{piece} " for piece in range(300))


async def test_a_question_whose_first_credit_was_given_is_not_put_again(
    session: BridgeSession, played: PlayedBridge
) -> None:
    async def die(turn: PlayedTurn) -> None:
        os.kill(played.records()[-1]["pid"], signal.SIGKILL)
        turn.hang_up()

    played.on_credit = die
    with pytest.raises(BackendCrashedError):
        await Talk(session).ask("one")
    assert len(played.asked("turn")) == 1


# --- silence ---


async def test_the_pause_before_another_try_is_no_silence(
    over: Callable[..., OwnBridge], spec: InstanceSpec, played: PlayedBridge
) -> None:
    async def retry(turn: PlayedTurn) -> None:
        await turn.tell("turn.retried", attempt=1, reason="529 overloaded", wait_s=30)

        async def later() -> None:
            await anyio.sleep(1.0)  # longer than the silence that is borne
            await played.answer(turn)

        tasks.start_soon(later)

    played.on_credit = retry
    talk = Talk(await over(limits=Limits(stall_s=0.4)).open(spec))
    async with anyio.create_task_group() as tasks:
        await talk.ask("one")
    assert talk.events == [Retried(1, "529 overloaded", 30.0), Delta("Answer")]


async def test_signs_of_life_that_the_bridge_does_not_tell_are_asked_for(
    over: Callable[..., OwnBridge], spec: InstanceSpec, played: PlayedBridge
) -> None:
    def health(_: dict[str, Any]) -> object:
        [turn] = played.turns.values()
        one = {"session": turn.params["session"], "state": "busy", "pid": 5, "rss_bytes": None, "turns": 0}
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {"pid": 5, "rss_bytes": 1, "uptime_s": 1, "sessions": [{**one, "last_alive_at": now}]}

    async def work(turn: PlayedTurn) -> None:
        async def later() -> None:
            await anyio.sleep(1.5)  # a tool runs, and prints now and then
            await played.answer(turn)

        tasks.start_soon(later)

    played.on_credit, played.methods["health"] = work, health
    talk = Talk(await over(limits=Limits(stall_s=0.5)).open(spec))
    async with anyio.create_task_group() as tasks:
        assert (await talk.ask("one")).text == "Answer"


# --- what it is told, and what it is asked ---


async def test_a_session_is_opened_with_all_that_was_granted_and_nothing_else(
    over: Callable[..., OwnBridge], played: PlayedBridge, tmp_path: Path
) -> None:
    (tmp_path / "module").mkdir()
    (tmp_path / "more").mkdir()
    grants = ("Read", "Bash", f"directory:{tmp_path / 'more'}")
    given = InstanceSpec(Pair("marker", "arangodb"), "bridge", MODEL, grants, tmp_path / "module")
    await Talk(await over().open(given)).ask("one")
    [told] = played.asked("open")
    assert told["tools"] == ["Read", "Bash"]
    assert (told["directory"], told["directories"]) == (str(tmp_path / "module"), [str(tmp_path / "more")])
    assert (told["system"], told["model"], told["max_output_tokens"]) == ("You are the module.", MODEL, 8192)
    assert told["mcp_servers"] == {}
    assert told["environment"]["HOME"] == str(tmp_path / "home" / "claude-code" / "home")


@pytest.mark.parametrize("told", [[], [{"name": "shop", "status": "failed", "error": "no such program"}]])
async def test_a_session_without_a_server_that_was_granted_is_not_asked(
    over: Callable[..., OwnBridge], played: PlayedBridge, tmp_path: Path, told: list[object]
) -> None:
    def opened(params: dict[str, Any]) -> object:
        assert list(params["mcp_servers"]) == ["shop"]
        return {"session": params["session"], "pid": None, "servers": told}

    played.methods["open"] = opened
    given = InstanceSpec(Pair("marker", "arangodb"), "bridge", MODEL, ("mcp:shop",), tmp_path)
    session = await over(servers={"shop": McpServer(command="shop")}).open(given)
    with pytest.raises(BackendUnavailableError, match="'shop', which was granted, cannot be used"):
        await Talk(session).ask("one")
    assert played.asked("turn") == []


async def test_a_process_proves_itself_to_the_bridge_or_it_is_said_that_it_did_not(
    session: BridgeSession, played: PlayedBridge
) -> None:
    await Talk(session).ask("one")
    [told] = played.asked("open")
    played.methods["health"] = lambda _: {"pid": 1, "rss_bytes": 1, "uptime_s": 1, "sessions": []}
    await session.prove(5)
    assert played.asked("health") == [{"prove": told["session"]}]

    def mute(_: dict[str, Any]) -> object:
        raise RefusedRequestError("timeout")

    played.methods["health"] = mute
    with pytest.raises(TimeoutError):
        await session.prove(5)


async def test_a_process_whose_session_has_gone_on_elsewhere_is_killed_before_it_can_write(
    over: Callable[..., OwnBridge], spec: InstanceSpec, played: PlayedBridge
) -> None:
    backend = over()
    session = await backend.open(spec)
    await Talk(session).ask("one")
    [told], [process] = played.asked("open"), played.processes
    lease = backend.workspace.lease(told["session"])
    assert lease.take()
    ended: list[bool] = []

    def close(_: dict[str, Any]) -> object:
        ended.append(process.wait(5) == -15)
        return {}

    played.methods["close"] = close
    await session.close()
    lease.release()
    assert ended == [True]


async def test_a_session_that_ended_while_the_connection_was_lost_is_told_with_the_next(
    session: BridgeSession, played: PlayedBridge
) -> None:
    await Talk(session).ask("one")
    played.methods["list"] = lambda _: {"sessions": []}
    next(iter(played.turns.values())).hang_up()
    with anyio.fail_after(10):
        assert await session.died() == "Claude Code ended while the connection to the bridge was lost"
    assert session.pid is None


# --- the process that is the bridge ---


async def test_each_bridge_has_a_token_of_its_own_in_a_private_file_and_knows_no_login_of_ours(
    over: Callable[..., OwnBridge], spec: InstanceSpec, played: PlayedBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "NODE_OPTIONS"):
        monkeypatch.setenv(name, "not for Node")
    for _ in range(2):
        await Talk(await over().open(spec)).ask("one")
        played.credits.clear()
    first, second = played.records()
    assert first["token"] != second["token"]
    assert min(len(first["token"]), len(second["token"])) >= 32
    assert (first["mode"], second["mode"]) == (0o600, 0o600)
    usual = {"PATH", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"}
    assert set(first["environment"]) <= usual | {"HOME", "TMPDIR", "NODE_ENV", MARK}
    assert first["environment"][MARK] == first["environment"]["TMPDIR"]


async def test_a_bridge_that_does_not_announce_itself_is_given_up(
    over: Callable[..., OwnBridge], spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "_START_WITHIN_S", 0.5)
    with pytest.raises(BackendUnavailableError, match="it did not come up within"):
        await Talk(await over(port=0).open(spec)).ask("one")


async def test_a_bridge_that_could_not_live_is_tried_again_when_some_time_has_passed(
    over: Callable[..., OwnBridge], spec: InstanceSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "_START_WITHIN_S", 0.2)
    talk = Talk(await over(port=0, storm=StormLimit(starts=2, within_s=2.0)).open(spec))
    said: list[str] = []
    with anyio.fail_after(20):
        while said.count("tried") < 3:
            with pytest.raises(BackendUnavailableError) as raised:
                await talk.ask("one")
            said.append("refused" if "was started 2 times" in str(raised.value) else "tried")
            await anyio.sleep(0.01)
    assert said[:3] == ["tried", "tried", "refused"]


async def waits_until_it_is_reached(
    backend: OwnBridge, played: PlayedBridge, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """How long it would wait before each try but the first."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    with monkeypatch.context() as patched:
        patched.setattr(_link, "_sleep", note)
        played.refusals = 12
        await backend.link.client()
    return waits


async def test_a_bridge_that_is_not_reached_is_tried_again_after_pauses_of_random_length(
    over: Callable[..., OwnBridge], played: PlayedBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await waits_until_it_is_reached(over(), played, monkeypatch) for _ in range(2)]
    assert first != second
    for waits in (first, second):
        assert len(waits) == 12
        assert len(set(waits)) > 6
        assert all(0 <= wait_s <= min(1.0, 0.02 * 2**number) for number, wait_s in enumerate(waits))
        assert max(waits[6:]) > 0.05


async def test_a_bridge_that_lives_and_cannot_be_reached_is_given_up_in_time(
    over: Callable[..., OwnBridge], played: PlayedBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_link, "_RECONNECT_WITHIN_S", 0.3)
    played.refusals = 1_000_000
    with pytest.raises(BackendCrashedError, match=r"could not be reached .* so it was stopped"):
        with anyio.fail_after(10):
            await over().link.client()
    assert 2 <= 1_000_000 - played.refusals < 1000

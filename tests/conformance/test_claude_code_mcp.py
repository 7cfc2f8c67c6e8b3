from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from claude_code_mcp_support import asked, stock_bridge, told

from claude_comms.errors import ContextTooLargeError
from claude_comms.testing.conformance import BackendConformance, make_request
from claude_comms.testing.conformance.backends import HOSTILE, Heard
from claude_comms.testing.loopback import Answer, Fault, LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from claude_comms.background.backends.protocol import Backend, Session
    from claude_comms.types import InstanceSpec

_EARLIER = re.compile(r"<(earlier-(?:question|answer)-[0-9a-f]+)>\n(.*?)\n</\1>", re.DOTALL)
_HUGE = HOSTILE[-1]


class TestClaudeCodeMcp(BackendConformance):
    """The stock npm package with the real Claude Code, over real HTTP."""

    @pytest.fixture
    def backend(self, tmp_path: Path, claude_code_mcp: tuple[str, ...]) -> Iterator[Backend]:
        self.directory = tmp_path / "module"
        self.directory.mkdir()
        with LoopbackAPI() as api:
            self.api = api
            yield stock_bridge(tmp_path / "home", api, claude_code_mcp)

    def spec(self, backend: Backend, **more: Any) -> InstanceSpec:
        return super().spec(backend, directory=self.directory, **more)

    def expect(self, text: str) -> None:
        self.api.answer(text)

    def expect_stall(self, after: str) -> None:
        self.api.answer(Answer(pieces=(after, " and the rest")))
        self.api.fail(Fault.stall(after=1))

    async def under_way(self, heard: Heard) -> None:
        await asked(self.api, 1)

    def forget(self) -> None:
        self.api.reset()

    def expect_failure(self) -> None:
        self.api.fail(Fault.status(402))

    def seen(self) -> list[str]:
        prompt = told(self.api.requests.messages[-1].body)
        return [*(earlier[2] for earlier in _EARLIER.finditer(prompt)), _EARLIER.sub("", prompt)]

    @pytest.mark.parametrize("text", HOSTILE[:-1], ids=["terminal", "fences", "unicode", "commands"])
    async def test_hostile_text_passes_unchanged_both_ways(self, session: Session, text: str) -> None:
        await super().test_hostile_text_passes_unchanged_both_ways(session, text)

    async def test_a_huge_answer_passes_unchanged(self, session: Session) -> None:
        self.expect(f"begin {_HUGE} end")
        assert (await session.ask(make_request(), Heard())).text == f"begin {_HUGE} end"

    async def test_a_question_that_fits_no_command_line_is_refused_unasked(self, session: Session) -> None:
        with pytest.raises(ContextTooLargeError, match="Ask something shorter"):
            await session.ask(make_request(_HUGE), Heard())
        assert not self.api.requests.messages
        assert (await self.ask(session)).text

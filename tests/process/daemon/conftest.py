"""A home whose daemon asks a loopback API, with everything that reaches it: commands, programs, followers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from survival_support import Lines, answering

from claude_comms.settings import Settings
from claude_comms.testing import LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.daemon import DaemonInfo
    from tests.process.conftest import Cli

PROGRAM = Path(__file__).with_name("asking_program.py")


@dataclass
class House:
    """A home, its command line, and the API that its daemon asks."""

    cli: Cli
    api: LoopbackAPI
    programs: list[Lines] = field(default_factory=list[Lines])

    @property
    def settings(self) -> Settings:
        """Enough of them to find the daemon."""
        return Settings.load({"home": self.cli.home})

    @property
    def daemon(self) -> DaemonInfo:
        """The one that serves."""
        info = answering(self.settings)
        assert info is not None
        return info

    def follower(self, *arguments: str) -> Lines:
        """A command that prints JSON lines, under way."""
        return Lines(self.cli.start(*arguments, "--json"))

    def program(self) -> Lines:
        """A Python program that asks what is written to its stdin."""
        child = subprocess.Popen(
            [sys.executable, str(PROGRAM), "marker", "arangodb"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.cli.environment,
        )
        self.programs.append(Lines(child))
        return self.programs[-1]

    def job(self, question: str, *options: str) -> str:
        """The id of a question in the background, whose command has ended."""
        asking = ["query-module", "arangodb", question, "--from", "marker", "--background", *options]
        return self.cli.json(*asking)["job_id"]

    def times_asked(self, question: str) -> int:
        """How often the API was sent it."""
        return [request.question for request in self.api.requests.messages].count(question)


@pytest.fixture
def house(background: Cli) -> Iterator[House]:
    with LoopbackAPI() as api:
        background.environment |= {**api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
        house = House(background, api)
        yield house
        for program in house.programs:
            with program.child as child:
                child.kill()

"""The commands that the documents show, run in order, with the output that is shown for them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.docs.conftest import Desk, Document

# The two lines that must be enough on a fresh machine, and the environment that the README puts in front.
FIRST_LINES = ("pip install . && claude-comms demo", "pip install '.[test]' && pytest")
ENVIRONMENT = "python3 -m venv .venv && . .venv/bin/activate"

# The package and its extras are installed already where the tests run.
FOLLOWS = "claude-comms monitor-instance marker_arangodb --since 0"
"""Ends only with the instance; tests/process runs it."""

NOT_RUN = (*FIRST_LINES, ENVIRONMENT, FOLLOWS, "pip install '.[claude-code]'", "pip install '.[mcp]'")

WITH_DAEMON = ("README.md", "cli.md")
"""Documents whose commands go through a daemon; those of the others stay in their own processes."""

_THREAD = re.compile(r"\bc_[0-9a-z]{3,26}\b")


def test_the_readme_installs_with_two_lines_and_nothing_else(documents: dict[str, Document]) -> None:
    commands = [
        command for block in documents["README.md"].blocks if block.kind == "console" for command, _ in block.commands
    ]
    installing = [command for command in commands if "pip " in command]
    assert installing == list(FIRST_LINES)
    assert commands.index(ENVIRONMENT) < commands.index(FIRST_LINES[0])


def test_what_is_shown_as_code_is_fenced_and_so_is_run(document: Document) -> None:
    prose = re.sub(r"^```.*?^```$", "", document.text, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\n {4}\S.*", prose, re.MULTILINE) == []


@pytest.mark.timeout(400)
def test_every_command_does_what_is_shown(document: Document, desk: Desk) -> None:
    desk.put(document)
    if document.path.name in WITH_DAEMON:
        desk.use_daemon()
    shown = _Threads(desk)
    for block in document.blocks:
        if block.kind != "console":
            continue
        commands = block.commands
        for (command, output), (following, _) in zip(commands, [*commands[1:], ("", "")], strict=True):
            if command in NOT_RUN:
                continue
            code, text = desk.run(shown.real(command, whole=True))
            assert code == 0 or following == "echo $?", f"{block}: {command}\nexit {code}\n{text}"
            if output.strip():
                _compare(f"{block}: {command}", shown.real(output), text)


def _compare(what: str, expected: str, text: str) -> None:
    """`…` stands for anything; how many spaces there are does not matter, since paths differ in length."""
    pattern = r".*?".join(re.escape(_spaced(part)) for part in _spaced(expected).split("…"))
    assert re.fullmatch(pattern, _spaced(text), re.DOTALL), f"{what}\n--- shown\n{expected}\n--- is\n{text}"


def _spaced(text: str) -> str:
    return re.sub(r"[ \t]+", " ", "\n".join(line.rstrip() for line in text.strip().splitlines()))


class _Threads:
    """The conversations that a document shows: its n-th id is the n-th one that its commands began."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shown: list[str] = []

    def real(self, text: str, *, whole: bool = False) -> str:
        """`text` with the ids that there are; as long as they are shown, or `whole`."""
        if not _THREAD.search(text):
            return text
        threads = self._desk.threads()
        return _THREAD.sub(
            lambda match: self._of(match.group(), threads)[: None if whole else len(match.group())], text
        )

    def _of(self, shown: str, threads: list[str]) -> str:
        for number, known in enumerate(self._shown):
            if known.startswith(shown) or shown.startswith(known):
                return threads[number]
        self._shown.append(shown)
        return threads[len(self._shown) - 1]

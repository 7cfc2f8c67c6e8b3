"""The example of background instances: twice, with the daemon living on in between."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.docs.conftest import Desk

PROGRAM = "python examples/background_instances.py"


def test_the_second_run_finds_the_instance_of_the_first(desk: Desk) -> None:
    try:
        code, first = desk.run(PROGRAM)
        assert code == 0, first
        code, second = desk.run(PROGRAM)
        assert code == 0, second
    finally:
        desk.run("claude-comms daemon stop --drain 0")
    started, found = (re.findall(r"(i_\w+) is (\w+), after (\d+) turns", text)[0] for text in (first, second))
    assert started[0] == found[0]
    assert (started[2], found[2]) == ("0", "2"), "the question, and the job, which found it idle"
    assert "seen elsewhere: marker said 'How should I store my page blocks?'" in first
    assert re.search(r"job j_\w+ is queued; this program could end now", first)
    assert re.search(r"job j_\w+ is done: ", first)

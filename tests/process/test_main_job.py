"""The main job in processes of their own: what one asked yesterday, another continues today."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.testing.loopback import LoopbackAPI
    from tests.process.conftest import Cli


def test_a_third_message_from_a_new_process_continues_the_thread(cli: Cli, loopback_api: LoopbackAPI) -> None:
    api = over(loopback_api)
    ask = ("query-module", "arangodb", "--from", "marker")
    loopback_api.answer("answer one")
    first = cli.json(*ask, "question one", environment=api)
    thread = first["thread_id"]
    for word in ("two", "three"):
        loopback_api.answer(f"answer {word}")
        later = cli.json(*ask, f"question {word}", "--thread", thread, environment=api)
        assert later["thread_id"] == thread
    bodies = [request.body for request in loopback_api.requests.messages]
    assert len(bodies) == 3
    for body in bodies:
        assert body["system"] == bodies[0]["system"]
        assert [block["cache_control"] for block in body["system"]] == [{"type": "ephemeral"}] * 2
        assert re.search(r"\barangodb\b", body["system"][0]["text"])
        assert re.search(r"\bmarker\b", body["system"][1]["text"])
    said = [(role, text) for role, text in loopback_api.requests.messages[2].thread]
    assert [text for role, text in said if role == "assistant"] == ["answer one", "answer two"]
    assert [re.search(r"question (?:one|two|three)", text) is not None for _, text in said[::2]] == [True] * 3
    for earlier, later in zip(loopback_api.requests.messages[:2], loopback_api.requests.messages[1:], strict=True):
        assert later.thread[: len(earlier.thread)] == earlier.thread


def test_everything_under_the_home_is_its_owners_alone(cli: Cli, loopback_api: LoopbackAPI) -> None:
    cli.json("query-module", "arangodb", "one", environment=over(loopback_api))
    (cli.directory / "pyproject.toml").write_text('[project]\nname = "mine"\n')
    cli.json("register-module", "mine", "--path", cli.directory)
    paths = [cli.home, *cli.home.rglob("*")]
    modes = {str(path): stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert modes == {str(path): 0o700 if path.is_dir() else 0o600 for path in paths}


def test_no_key_stands_in_any_file_of_the_home(cli: Cli, loopback_api: LoopbackAPI) -> None:
    loopback_api.keys = ["another one"]
    cli.json("query-module", "arangodb", "one", environment=over(loopback_api), code=1)
    loopback_api.keys = None
    cli.json("query-module", "arangodb", "one", environment=over(loopback_api))
    key = loopback_api.key.encode()
    assert not [path for path in files_under(cli.home) if key in path.read_bytes()]


def over(api: LoopbackAPI) -> dict[str, str]:
    return {**api.environment(), "CLAUDE_COMMS_BACKEND": "auto"}


def files_under(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]

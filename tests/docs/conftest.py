"""What README.md and docs/*.md show, taken out of them and run: nothing in them may be untrue.

A fenced block ``console`` holds commands after ``$ `` and, where it shows any, their output; ``…`` stands for any
text. A block whose first line of fence says ``file=NAME`` is a file of that name beside the commands. A document's
console blocks share one home and run in order; each python block stands alone, with an empty home. The Messages API
is a loopback one: it answers with a sentence, or with JSON that matches the schema it was asked for.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import claude_comms
from claude_comms.testing import LoopbackAPI
from claude_comms.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.testing import RecordedRequest

ROOT = Path(__file__).parents[2]
ANSWER = "Keep one document collection for blocks, and make _key from the block's id."

_FENCE = re.compile(r"^```(?P<kind>[a-z0-9]*)(?: +(?P<info>[^\n]*))?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_SCHEMA = re.compile(r"<(schema-[0-9a-f]+)>\n(.*?)\n</\1>", re.DOTALL)
_PASSED_ON = ("PATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")
_SHIM = '#!/bin/sh\nexec "{python}" {arguments} "$@"\n'


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: str
    line: int
    kind: str
    text: str
    file: str | None
    """The name under which it is to stand beside the commands."""

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of a console block, each with the output that is shown for it."""
        parts = re.split(r"^\$ (.*)\n", self.text, flags=re.MULTILINE)
        assert not parts[0].strip(), f"{self}: output without a command"
        return list(zip(parts[1::2], parts[2::2], strict=True))

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Document:
    """A Markdown file of ours."""

    path: Path

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        return [self._block(match) for match in _FENCE.finditer(self.text)]

    def _block(self, match: re.Match[str]) -> Block:
        file = re.search(r"\bfile=(\S+)", match["info"] or "")
        line = match.string.count("\n", 0, match.start()) + 1
        return Block(self.path.name, line, match["kind"], match["text"], file[1] if file else None)

    def __str__(self) -> str:
        return self.path.name


DOCUMENTS = [Document(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "document" in metafunc.fixturenames:
        metafunc.parametrize("document", DOCUMENTS, ids=str)
    if "python_block" in metafunc.fixturenames:
        found = [(document, block) for document in DOCUMENTS for block in document.blocks if block.kind == "python"]
        metafunc.parametrize(("python_document", "python_block"), found, ids=[str(block) for _, block in found])


@dataclass
class Desk:
    """Where a document's reader sits: a home, a working directory, the variables of a child."""

    home: Path
    directory: Path
    environment: dict[str, str]
    base_url: str
    _code: int = field(default=0)

    def run(self, command: str) -> tuple[int, str]:
        """The exit code and all output of a command, stdout and stderr as they come, with the desk's own places
        as a reader would see them."""
        if command == "echo $?":
            return 0, f"{self._code}\n"
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
            cwd=self.directory,
            timeout=60,
            check=False,
        )
        self._code = done.returncode
        text = done.stdout.decode().replace(str(self.home), "/home/you").replace(self.base_url, "http://127.0.0.1:8000")
        assert printable(text) == text, command
        return done.returncode, text

    def put(self, document: Document) -> None:
        """Put the files that a document shows, and what its packages declare, where its commands find them."""
        for block in document.blocks:
            if block.file is not None:
                path = self.directory / block.file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
            if block.kind == "toml" and "entry-points" in block.text:
                _install(self.directory, tomllib.loads(block.text)["project"])

    def use_daemon(self) -> None:
        """Let commands go through a daemon from now on; `close` ends it."""
        self.environment.pop("CLAUDE_COMMS_DAEMON", None)

    def close(self) -> None:
        """End the daemon, if one was started."""
        if "CLAUDE_COMMS_DAEMON" not in self.environment:
            code, text = self.run("claude-comms daemon stop --drain 0")
            assert code == 0, text

    def threads(self) -> list[str]:
        """The ids of all conversations, in the order in which they were begun."""
        from claude_comms import create_communicator

        home = {"home": self.home / ".claude-comms"}
        with create_communicator(None, settings=home, use_background=False) as comm:
            found = comm.list_conversations(any_source=True, state="all", limit=1000)
        return sorted(conversation.thread_id for conversation in found)


def answer_like_a_model(request: RecordedRequest) -> str:
    """A sentence, or the smallest JSON value that the schema in the last message allows."""
    found = _SCHEMA.search(request.thread[-1][1])
    return json.dumps(_smallest(json.loads(found[2]))) if found else ANSWER


def _smallest(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            properties = cast("dict[str, dict[str, Any]]", schema.get("properties", {}))
            return {name: _smallest(part) for name, part in properties.items()}
        case "array":
            return [_smallest(schema["items"])]
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case _:
            return "blocks"


@pytest.fixture(scope="session")
def docs_api() -> Iterator[LoopbackAPI]:
    with LoopbackAPI(answer_like_a_model) as api:
        yield api


@pytest.fixture
def desk(docs_api: LoopbackAPI, tmp_path: Path) -> Iterator[Desk]:
    """A reader's desk with the checkout's descriptors and examples on it, and three modules in ~/src."""
    docs_api.reset()  # an empty prompt cache, so that what a question costs is the same every time
    home = tmp_path / "you"
    directory, commands = home / "work", tmp_path / "bin"
    directory.mkdir(parents=True)
    commands.mkdir()
    for name in ("descriptors", "examples"):
        (directory / name).symlink_to(ROOT / name)
    for name in ("marker", "arango", "mytool"):
        (home / "src" / name).mkdir(parents=True)
    (home / "src/mytool/README.md").write_text("# mytool\n\nCounts the words of a text.\n")
    (home / "src/mytool/mytool.py").write_text(
        'def count(text: str) -> int:\n    """How many words."""\n    return 0\n'
    )
    _shim(commands / "claude-comms", "-P -m claude_comms")
    _shim(commands / "python", "")
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= docs_api.environment() | {
        "HOME": str(home),
        "CLAUDE_COMMS_BACKEND": "api",
        "CLAUDE_COMMS_DAEMON": "off",
        "PATH": f"{commands}:{environment['PATH']}",
        "PYTHONPATH": f"{Path(claude_comms.__file__).parents[1]}:{directory}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
    desk = Desk(home, directory, environment, docs_api.base_url)
    yield desk
    desk.close()


def _shim(path: Path, arguments: str) -> None:
    path.write_text(_SHIM.format(python=sys.executable, arguments=arguments))
    path.chmod(0o755)


def _install(directory: Path, project: dict[str, Any]) -> None:
    """What pip would leave of such a project beside its code."""
    place = directory / f"{project['name']}-{project['version']}.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = cast("dict[str, dict[str, str]]", project["entry-points"])
    lines = [
        line for group, names in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in names.items()))
    ]
    (place / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def documents() -> dict[str, Document]:
    """All documents by file name."""
    return {document.path.name: document for document in DOCUMENTS}

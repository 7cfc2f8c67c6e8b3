"""One table of cases for the confinement in both languages: `bridge/test/confinement_cases.json`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from claude_comms.background.backends.claude_runtime.confinement import FILE_TOOLS, Confinement
from claude_comms.background.backends.claude_runtime.secret_names import SECRET_NAMES
from claude_comms.mcp_servers import McpServer
from claude_comms.types import InstanceSpec, Pair

BRIDGE = Path(__file__).parents[5] / "bridge"
TABLE: dict[str, Any] = json.loads((BRIDGE / "test" / "confinement_cases.json").read_text("utf-8"))
CASES: list[dict[str, Any]] = TABLE["cases"]

KINDS = {
    "granted": "granted",
    "not_granted": r"is not granted$",
    "outside": r"^outside the module's path$",
    "secret": r"^looks like a secret \(",
    "odd": r"^neither a file nor a directory$",
    "unfollowed": r"^the path cannot be followed$",
    "undecided": r"^it could not be decided: ",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the table speaks of."""
    root = tmp_path_factory.mktemp("confinement").resolve()
    for name in TABLE["files"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for name, target in TABLE["links"].items():
        (root / name).symlink_to(filled(target, root))
    for name in TABLE["fifos"]:
        os.mkfifo(root / name)
    return root


def filled(value: Any, root: Path) -> Any:
    """`value` with ``$DIR`` and ``$LONG`` put in."""
    match value:
        case str():
            return value.replace("$DIR", str(root)).replace("$LONG", "x" * 5000)
        case list():
            return [filled(inner, root) for inner in value]  # pyright: ignore[reportUnknownVariableType]
        case dict():
            return {key: filled(inner, root) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case _:
            return value


def confined(case: dict[str, Any], root: Path) -> Confinement:
    servers: dict[str, list[str] | None] = case.get("servers", {})
    grants = [
        *case.get("tools", FILE_TOOLS),
        *(f"directory:{filled(path, root)}" for path in case.get("directories", [])),
        *(f"mcp:{name}" for name, tools in servers.items() if tools is None),
        *(f"mcp:{name}/{tool}" for name, tools in servers.items() for tool in tools or ()),
    ]
    spec = InstanceSpec(Pair("marker", "arangodb"), "claude-code", None, tuple(grants), root / "module")
    return Confinement(spec, {name: McpServer(command="/bin/true") for name in servers})


@pytest.mark.parametrize("index", range(len(CASES)))
def test_a_case_is_decided_as_the_table_says(index: int, root: Path) -> None:
    case = CASES[index]
    decision = confined(case, root).rule(case["tool"], filled(case["arguments"], root), root / "module")
    assert decision.allowed is case["allowed"], decision.reason
    assert re.search(KINDS[case["kind"]], decision.reason)
    assert (None if decision.path is None else str(decision.path)) == filled(case.get("path"), root)


def test_the_table_has_cases_of_every_kind() -> None:
    assert {case["kind"] for case in CASES} == set(KINDS)


def test_both_languages_have_the_same_list_of_secret_names() -> None:
    assert tuple(json.loads((BRIDGE / "secret_names.json").read_text("utf-8"))) == SECRET_NAMES

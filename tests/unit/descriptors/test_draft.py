"""Drafting: what is found, and that nothing of the module runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.descriptors import Capability, draft_descriptor, dump_descriptor, loads_descriptor
from claude_comms.errors import ConfigError, DescriptorError

if TYPE_CHECKING:
    from pathlib import Path

CODE = '''
"""Turns letters."""
import pathlib
from typing import Any, Literal, Optional
pathlib.Path(__file__).with_name("RAN").write_text("imported")
__all__ = ["turn", "Wheel"]

def turn(
    text: str, times: int = 1, *, mode: Literal["left", "right"] = "left", where: "Optional[pathlib.Path]" = None
) -> list[str]:
    """Turn the text.

    Really.
    """

async def _hidden(): ...
def not_exported() -> None: ...

class Wheel:
    """A wheel."""
    def spin(self, speed: float, **options: Any) -> dict[str, int] | None:
        """Spin it."""
    def quiet(self): ...
'''
README = """\
# Turner

[![build](https://example.org/badge.svg)](https://example.org)

Turner turns [letters](https://example.org) around. It is fast.

```
not this
```

- nor this
"""
PYPROJECT = """\
[project]
name = "turner"
version = "1.2"
description = "Turns letters around."
[project.scripts]
turn-it = "turner:main"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "README.md": README,
        "src/turner/__init__.py": CODE,
        "src/turner/broken.py": "def broken(:\n",
        "src/turner/nul.py": "x = '\0'",
        "src/turner/deep.py": "x = " + "(" * 5_000,
        "src/turner/_private.py": "def private_one(): 'x'",
        "tests/test_x.py": "def test_it(): 'x'",
        "node_modules/foreign.py": "def foreign(): 'x'",
        "env2/pyvenv.cfg": "",
        "env2/lib.py": "def in_env(): 'x'",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def by_name(root: Path, name: str = "turner") -> dict[str, Capability]:
    return {item.name: item for item in draft_descriptor(name, root).capabilities}


def test_the_project_speaks_for_itself(project: Path) -> None:
    card = draft_descriptor("turner", project)
    assert (card.version, card.summary) == ("1.2", "Turns letters around.")
    assert card.description == "Turner turns letters around. It is fast."
    assert card.metadata["drafted_from"] == ["pyproject.toml", "README.md", "2 Python files"]
    assert loads_descriptor(dump_descriptor(card)) == card


def test_public_functions_and_scripts_become_capabilities(project: Path) -> None:
    assert set(by_name(project)) == {"turn", "Wheel.spin", "turn-it"}


def test_signatures_become_schemas(project: Path) -> None:
    turn, spin = by_name(project)["turn"], by_name(project)["Wheel.spin"]
    assert turn.description.startswith("Turn the text.\n\nReally.")
    assert turn.input_schema == {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "times": {"type": "integer", "default": 1},
            "mode": {"enum": ["left", "right"], "default": "left"},
            "where": {"anyOf": [{"type": "string", "description": "a path"}, {"type": "null"}], "default": None},
        },
        "required": ["text"],
        "additionalProperties": False,
    }
    assert turn.output_schema == {"type": "array", "items": {"type": "string"}}
    assert spin.input_schema == {"type": "object", "properties": {"speed": {"type": "number"}}, "required": ["speed"]}
    assert spin.output_schema["anyOf"][0] == {"type": "object", "additionalProperties": {"type": "integer"}}


def test_nothing_of_the_module_runs(project: Path) -> None:
    (project / "setup.py").write_text("import pathlib; pathlib.Path(__file__).with_name('RAN').write_text('x')")
    (project / "conftest.py").write_text("import pathlib; pathlib.Path(__file__).with_name('RAN').write_text('x')")
    before = sorted(project.rglob("*"))
    draft_descriptor("turner", project)
    assert sorted(project.rglob("*")) == before


def test_symlinks_are_not_followed(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("def secret_function(): 'x'")
    (project / "linked").symlink_to(outside)
    (project / "link.py").symlink_to(outside / "secret.py")
    (project / "loop").symlink_to(project)
    os.mkfifo(project / "pipe.py")
    (project / "README.md").unlink()
    (project / "README.md").symlink_to(outside / "secret.py")
    assert "secret" not in dump_descriptor(draft_descriptor("turner", project))


def test_the_best_thirty_stay(project: Path) -> None:
    (project / "src/turner/many.py").write_text("\n".join(f"def f{number}(): ..." for number in range(100)))
    (project / "src/turner/more.py").write_text(
        "\n".join(f"def turn_{number}(x: int) -> int:\n    'd'" for number in range(20))
    )
    names = set(by_name(project))
    assert len(names) == 30
    assert {"turn", "turn-it", *(f"turn_{number}" for number in range(20))} <= names


def test_functions_of_one_name_are_told_apart(project: Path) -> None:
    (project / "src/turner/other.py").write_text("def turn(): 'Another.'")
    assert {"turn", "turner.other.turn"} <= set(by_name(project))


def test_package_json_and_setup_cfg_serve_as_well(tmp_path: Path) -> None:
    node, old = tmp_path / "node", tmp_path / "old"
    node.mkdir()
    old.mkdir()
    (node / "package.json").write_text(
        json.dumps({"name": "@a/b", "version": "3", "description": "Does it.", "bin": "x.js"})
    )
    (old / "setup.cfg").write_text(
        "[metadata]\nversion = 4\ndescription = Old.\n[options.entry_points]\nconsole_scripts =\n    go = a:b\n"
    )
    card = draft_descriptor("b", node)
    assert (card.version, card.summary, [item.name for item in card.capabilities]) == ("3", "Does it.", ["b"])
    card = draft_descriptor("old", old)
    assert (card.version, card.summary, [item.name for item in card.capabilities]) == ("4", "Old.", ["go"])


OPENAPI: dict[str, Any] = {
    "openapi": "3.0.3",
    "paths": {
        "/pets/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
            "get": {
                "operationId": "getPet",
                "summary": "One pet",
                "tags": ["pets"],
                "parameters": [{"$ref": "#/components/parameters/Full"}],
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}
                },
            },
            "delete": {"responses": {"204": {}}},
        },
        "/pets": {
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}},
                }
            }
        },
    },
    "components": {
        "parameters": {"Full": {"name": "full", "in": "query", "schema": {"type": "boolean"}}},
        "schemas": {
            "Pet": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "nullable": True},
                    "age": {"type": "integer", "minimum": 0, "exclusiveMinimum": True},
                    "parent": {"$ref": "#/components/schemas/Pet"},
                },
            }
        },
    },
}


@pytest.mark.parametrize("file", ["openapi.json", "api/openapi.yaml"])
def test_operations_of_an_openapi_file_become_capabilities(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(OPENAPI))
    found = by_name(tmp_path, "pets")
    assert set(found) == {"getPet", "DELETE /pets/{id}", "POST /pets"}
    get = found["getPet"]
    assert get.tags == ("http", "pets")
    assert get.input_schema["properties"] == {"id": {"type": "integer"}, "full": {"type": "boolean"}}
    assert get.input_schema["required"] == ["id"]
    pet = get.output_schema["$defs"]["Pet"]["properties"]
    assert get.output_schema["$ref"] == pet["parent"]["$ref"] == "#/$defs/Pet"
    assert pet["name"] == {"type": ["string", "null"]}
    assert pet["age"] == {"type": "integer", "exclusiveMinimum": 0}
    assert found["POST /pets"].input_schema["required"] == ["body"]


def test_an_empty_directory_gives_a_descriptor_too(tmp_path: Path) -> None:
    card = draft_descriptor("empty", tmp_path)
    assert (card.summary, card.capabilities) == ("The module empty.", ())


def test_a_bad_name_and_a_bad_path_are_our_errors(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="not a module's name"):
        draft_descriptor("Bad Name", tmp_path)
    with pytest.raises(ConfigError, match="is not a directory"):
        draft_descriptor("x", tmp_path / "gone")

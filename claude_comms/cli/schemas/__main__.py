"""``python -m claude_comms.cli.schemas``: write the schema files anew from the types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from claude_comms.cli.schemas._documents import DOCUMENTS

__all__ = ["make_schemas"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_GENERATED = ("title", "default")
"""What pydantic adds and nobody needs: titles are names again, and a document has every field."""


def make_schemas() -> dict[str, dict[str, Any]]:
    """The schema of each command's documents, by the command."""
    made: dict[str, dict[str, Any]] = {}
    for command, model in DOCUMENTS.items():
        schema = _closed(model.model_json_schema(mode="serialization"))
        made[command] = {"$schema": _DIALECT, "title": f"claude-comms {command} --json", **schema}
    return made


def _closed(part: Any) -> Any:
    """`part` with every field required, and no others allowed where the model allows none."""
    if isinstance(part, list):
        return [_closed(item) for item in cast("list[Any]", part)]
    if not isinstance(part, dict):
        return part
    schema = cast("dict[str, Any]", part)
    closed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):
            closed[key] = {name: _closed(item) for name, item in value.items()}
        elif key not in _GENERATED:
            closed[key] = _closed(value)
    if "properties" in closed:
        closed["required"] = list(closed["properties"])
        closed.setdefault("additionalProperties", False)
    return closed


def _write() -> None:
    folder = Path(__file__).parent
    for command, schema in make_schemas().items():
        path = folder / f"{command.replace(' ', '_')}.json"
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()

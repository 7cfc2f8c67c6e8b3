"""Claude Code's session files: finding one, and making one by hand from a stored thread.

A session is a JSONL file named after its id below ``projects/`` in the configuration directory. Rows are chained
by ``parentUuid``; resuming reads the chain that ends in the last row.
"""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from claude_comms.files import private_dir, write_private
from claude_comms.types import HistoryMessage, Role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["branch_off", "find_transcript", "lead_to", "project_folder", "recalls", "rows_since", "write_transcript"]

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9]")
_LONGEST_NAME = 200


def project_folder(config: Path, directory: Path) -> Path:
    """Where Claude Code keeps the sessions of `directory`: its path with every other character as a dash."""
    return config / "projects" / _NOT_IN_NAMES.sub("-", str(directory))[:_LONGEST_NAME]


def find_transcript(config: Path, session_id: str) -> Path | None:
    """The session's file, whichever directory it began in; None when it is lost."""
    try:
        uuid.UUID(session_id)
    except ValueError:
        return None
    return next(iter((config / "projects").glob(f"*/{session_id}.jsonl")), None)


def lead_to(transcript: Path, row: str) -> bool:
    """Make the session end in `row` when it is resumed; False when that row was never written: a kill came before.

    A process that was killed leaves the note of the last clean exit behind, and 2.1.329 resumes from there,
    whatever was written since. So the note is written again. The caller holds the session's lease.
    """
    note = {"type": "last-prompt", "lastPrompt": "", "leafUuid": row, "sessionId": transcript.stem}
    try:
        content = transcript.read_bytes()
        if f'"uuid":"{row}"'.encode() not in content:
            return False
        with transcript.open("ab") as file:
            torn = b"" if content.endswith(b"\n") else b"\n"
            file.write(torn + json.dumps(note, separators=(",", ":")).encode() + b"\n")
    except OSError:
        return False
    return True


def recalls(transcript: Path, row: str, history: Sequence[HistoryMessage]) -> bool:
    """Whether the chain that ends in `row` holds the turns of `history`, in order; others may lie between them.

    Others are turns that were interrupted or failed, and those that `history` leaves out to be short. Whitespace
    does not count: Claude Code and the stored thread set their paragraphs differently.
    """
    questions, answers = history[-2::-2], history[-1::-2]
    wanted = [
        (_letters(question.text), _letters(answer.text)) for question, answer in zip(questions, answers, strict=True)
    ]
    try:
        held = _turns(transcript.read_bytes(), row)
        return all(turn in held for turn in wanted)  # `in` goes on where it stopped
    except (OSError, KeyError, TypeError, AttributeError):  # unreadable, or not what Claude Code writes
        return False


def _turns(content: bytes, row: str) -> Iterator[tuple[str, str]]:
    """Question and answer of each turn on the chain that ends in `row`, newest first, without their whitespace."""
    rows = _chained(content)
    # Each block of a message is a row, and of parallel tool calls not all are on the chain.
    said: dict[str, str] = {}
    for each in rows.values():
        if each["type"] == "assistant":
            said[_message_id(each)] = said.get(_message_id(each), "") + _letters(_text(each))
    answer: list[str] = []
    here: str | None = row
    while here is not None and (each := rows.pop(here, None)) is not None:
        if each["type"] == "assistant":
            answer.append(said.pop(_message_id(each), ""))
        elif each["type"] == "user" and not each.get("isMeta") and (question := _text(each)):
            yield _letters(question), "".join(reversed(answer))
            answer = []
        # A compaction starts a new chain, and says which one it goes on.
        here = each.get("parentUuid") or each.get("logicalParentUuid")


def _chained(content: bytes) -> dict[str, dict[str, Any]]:
    """The rows that have a place in the chain, by their ids. A torn one is none."""
    rows: dict[str, dict[str, Any]] = {}
    for line in content.split(b"\n"):
        if b'"parentUuid"' not in line:
            continue
        try:
            row = json.loads(line)
            rows[str(row["uuid"])] = {"type": "", **row}
        except (ValueError, KeyError, TypeError):
            continue
    return rows


def _message_id(row: Mapping[str, Any]) -> str:
    return str(row["message"].get("id") or row["uuid"])


def _text(row: Mapping[str, Any]) -> str:
    content = row["message"]["content"]
    if isinstance(content, str):
        return content
    return "".join(block["text"] for block in content if block["type"] == "text")


def _letters(text: str) -> str:
    return "".join(text.split())


def branch_off(transcript: Path, row: str, session_id: str) -> set[str] | None:
    """Copy the chain that ends in `row` into a new session beside `transcript`; the ids of its rows.

    None where the chain cannot be read. The session that is copied is only read: another process may hold it.
    """
    try:
        rows = _chained(transcript.read_bytes())
    except OSError:
        return None
    chain: list[dict[str, Any]] = []
    here: str | None = row
    while here is not None and (each := rows.pop(here, None)) is not None:
        chain.append({**each, "sessionId": session_id})
        here = each.get("parentUuid") or each.get("logicalParentUuid")
    if not chain:
        return None
    lines = [json.dumps(each) for each in reversed(chain)]
    write_private(transcript.with_name(f"{session_id}.jsonl"), "\n".join(lines) + "\n")
    return {str(each["uuid"]) for each in chain}


def rows_since(transcript: Path, known: Collection[str]) -> list[dict[str, Any]]:
    """The rows of the chain that ends in the file's last row, in order, from behind the `known` ones on."""
    try:
        rows = _chained(transcript.read_bytes())
    except OSError:
        return []
    here = next((uuid_ for uuid_, each in reversed(rows.items()) if not each.get("isSidechain")), None)
    found: list[dict[str, Any]] = []
    while here is not None and here not in known and (each := rows.pop(here, None)) is not None:
        found.append(each)
        here = each.get("parentUuid") or each.get("logicalParentUuid")
    return found[::-1]


def write_transcript(
    config: Path, directory: Path, history: Sequence[HistoryMessage], *, model: str, version: str
) -> str:
    """Write `history` as a new session that began in `directory`, and return its id."""
    session_id = str(uuid.uuid4())
    parent: str | None = None
    rows: list[str] = []
    for message in history:
        row = _row(message, model)
        row |= {
            "parentUuid": parent,
            "isSidechain": False,
            "uuid": (parent := str(uuid.uuid4())),
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "userType": "external",
            "entrypoint": "sdk-py",
            "cwd": str(directory),
            "sessionId": session_id,
            "version": version,
        }
        rows.append(json.dumps(row))
    folder = private_dir(project_folder(config, directory))
    write_private(folder / f"{session_id}.jsonl", "\n".join(rows) + "\n")
    return session_id


def _row(message: HistoryMessage, model: str) -> dict[str, Any]:
    if message.role is Role.QUESTION:
        return {"type": "user", "message": {"role": "user", "content": message.text}}
    return {
        "type": "assistant",
        "message": {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [{"type": "text", "text": message.text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        },
    }

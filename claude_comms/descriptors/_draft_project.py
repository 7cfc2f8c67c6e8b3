"""What a project says of itself: pyproject.toml, setup.cfg, package.json, README."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from claude_comms.descriptors._draft_sources import read_text
from claude_comms.text import shorten

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Project", "read_project"]

_LONGEST_README = 2_000
_NOT_PROSE = re.compile(r"^\s*(#|<|!\[|\[!\[|\[!|\||=|---|\*\*\*|\.\. |:\w+:|[-*+] |\d+\. |>)")


@dataclass(slots=True)
class Project:
    """What was found; empty where nothing was."""

    version: str = ""
    summary: str = ""
    description: str = ""
    scripts: dict[str, str] = field(default_factory=dict[str, str])
    """Command name → what it runs."""
    files: list[str] = field(default_factory=list[str])
    """What it was found in."""


def read_project(root: Path) -> Project:
    """All sources together; the first one that says something wins."""
    project = Project()
    for name, read in (("pyproject.toml", _pyproject), ("setup.cfg", _setup_cfg), ("package.json", _package_json)):
        text = read_text(root / name)
        found = read(text) if text is not None else None
        if found is not None:
            _add(project, found, name)
    for name in ("README.md", "README.rst", "README.txt", "README", "readme.md", "Readme.md"):
        text = read_text(root / name)
        if text is not None:
            paragraphs = _prose(text)
            _add(project, Project("", _first_sentence(paragraphs), "\n\n".join(paragraphs)), name)
            break
    return project


def _add(project: Project, found: Project, file: str) -> None:
    project.version = project.version or found.version
    project.summary = project.summary or found.summary
    project.description = project.description or found.description
    project.scripts = found.scripts | project.scripts
    project.files.append(file)


def _pyproject(text: str) -> Project | None:
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    poetry = _table(_table(values, "tool"), "poetry")
    table = {**poetry, **_table(values, "project")}
    scripts = {**_texts(_table(table, "scripts")), **_texts(_table(table, "gui-scripts"))}
    return Project(_text(table, "version"), shorten(_text(table, "description"), 200), scripts=scripts)


def _setup_cfg(text: str) -> Project | None:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    version = parser.get("metadata", "version", fallback="")
    lines = parser.get("options.entry_points", "console_scripts", fallback="").splitlines()
    scripts = {name.strip(): runs.strip() for name, mark, runs in (line.partition("=") for line in lines) if mark}
    literal = "" if version.startswith(("attr:", "file:")) else version
    return Project(literal, shorten(parser.get("metadata", "description", fallback=""), 200), scripts=scripts)


def _package_json(text: str) -> Project | None:
    try:
        values: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    table = cast("dict[str, Any]", values)
    commands = table.get("bin")
    if isinstance(commands, str):
        commands = {_text(table, "name").rpartition("/")[2]: commands}
    scripts = _texts(cast("Mapping[str, Any]", commands)) if isinstance(commands, Mapping) else {}
    return Project(_text(table, "version"), shorten(_text(table, "description"), 200), scripts=scripts)


def _table(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _text(values: Mapping[str, Any], key: str) -> str:
    found = values.get(key)
    return found if isinstance(found, str) else ""


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: runs for name, runs in values.items() if name.strip() and isinstance(runs, str)}


def _prose(text: str) -> list[str]:
    """The first paragraphs of a README that are plain sentences: no headings, badges, lists, tables or code."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", re.sub(r"```.*?(```|\Z)", "", text[:100_000], flags=re.DOTALL)):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        prose = [line for line in lines if not _NOT_PROSE.match(line) and not re.fullmatch(r"[=\-~^*]{3,}", line)]
        joined = _without_markup(" ".join(prose))
        underlined = len(lines) == 2 and re.fullmatch(r"[=\-~^*]{3,}", lines[1])
        if len(joined) >= 20 and not underlined:
            found.append(joined)
        if len(found) == 3 or sum(map(len, found)) > _LONGEST_README:
            break
    return [shorten(paragraph, _LONGEST_README) for paragraph in found]


def _without_markup(text: str) -> str:
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return re.sub(r"<[^<>]{1,200}>", "", text).strip()


def _first_sentence(paragraphs: list[str]) -> str:
    first = re.split(r"(?<=[.!?])\s", paragraphs[0], maxsplit=1)[0] if paragraphs else ""
    return shorten(first, 200)

"""Descriptors that build on others."""

from __future__ import annotations

import pytest

from claude_comms.descriptors import ModuleDescriptor, loads_descriptor, resolve
from claude_comms.errors import DescriptorError

BASE = """
name: base
version: "1"
summary: The base.
capabilities:
  - {name: read, description: old}
  - {name: write}
data_types: [pdf]
permissions: {tools: [Read, Bash]}
hints: {role: an engineer, guidance: Be brief.}
metadata: {a: {x: 1, y: 2}, b: [1]}
"""
CHILD = """
name: child
extends: base
summary: The child.
capabilities:
  - {name: read, description: new}
  - {name: print}
data_types: [pdf, html]
permissions: {tools: [Bash, Write]}
hints: {guidance: Be long.}
metadata: {a: {y: 3}, b: [2]}
"""


def lookup(*texts: str) -> dict[str, ModuleDescriptor]:
    cards = [loads_descriptor(text) for text in texts]
    return {card.name: card for card in cards}


def test_own_scalars_win_lists_add_and_mappings_merge() -> None:
    known = lookup(BASE, CHILD)
    card = resolve(known["child"], known.get)
    assert (card.name, card.version, card.summary) == ("child", "1", "The child.")
    assert [(item.name, item.description) for item in card.capabilities] == [
        ("read", "new"),
        ("write", ""),
        ("print", ""),
    ]
    assert card.data_types == ("pdf", "html")
    assert card.permissions.tools == ("Read", "Bash", "Write")
    assert (card.hints.role, card.hints.guidance) == ("an engineer", "Be long.")
    assert card.metadata == {"a": {"x": 1, "y": 3}, "b": [1, 2]}


def test_a_chain_is_followed_to_its_end() -> None:
    known = lookup(BASE, CHILD, "name: grandchild\nextends: child\n")
    card = resolve(known["grandchild"], known.get)
    assert (card.name, card.summary, card.version) == ("grandchild", "The child.", "1")


def test_a_circle_is_refused_and_named() -> None:
    known = lookup("name: a\nextends: b\n", "name: b\nextends: c\n", "name: c\nextends: a\n")
    with pytest.raises(DescriptorError, match="a → b → c → a"):
        resolve(known["a"], known.get)


def test_an_unknown_parent_is_named() -> None:
    known = lookup(CHILD)
    with pytest.raises(DescriptorError, match="child extends 'base', which is not known"):
        resolve(known["child"], known.get)

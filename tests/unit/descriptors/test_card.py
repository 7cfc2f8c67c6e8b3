"""Descriptors and agent cards of A2A 1.0: nothing is lost on the way, in either direction."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from claude_comms.descriptors import (
    dump_descriptor,
    from_agent_card,
    loads_descriptor,
    to_agent_card,
)
from claude_comms.descriptors._file import from_values

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PARAGRAPHS = st.lists(TEXT | st.sampled_from(["A", "x" * 201, "A line."]), max_size=3).map("\n\n".join)
WORDS = TEXT | PARAGRAPHS
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)
LABELS = st.from_regex(r"[A-Za-z0-9ä.][A-Za-z0-9 :#'\"-]{0,10}[A-Za-z0-9]", fullmatch=True)
SCHEMAS = st.booleans() | st.sampled_from([{"type": ["object", "string", "null"]}, {"title": "a", "description": "b"}])


def record(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


# --- foreign cards -----------------------------------------------------------------------------

SAID = TEXT.filter(bool) | PARAGRAPHS.filter(bool)
UNKNOWN = st.dictionaries(st.sampled_from(["x-own", "tenants", "skillz", "url"]), VALUES, max_size=2)


def extended(strategy: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """With fields that A2A 1.0 does not know."""
    return st.tuples(UNKNOWN, strategy).map(lambda both: {**both[0], **both[1]})


SKILLS = extended(
    record(
        {"id": SAID | LABELS, "name": SAID, "description": SAID, "tags": st.lists(WORDS, max_size=3)},
        {
            "examples": st.none() | st.lists(WORDS, max_size=3),
            "inputModes": st.lists(WORDS, max_size=2),
            "securityRequirements": st.lists(UNKNOWN, max_size=1),
        },
    )
)
FOREIGN = extended(
    record(
        {
            "name": NAMES | SAID | st.just("Recipe Agent"),
            "description": SAID,
            "version": SAID,
            "supportedInterfaces": st.lists(
                extended(record({"url": SAID, "protocolBinding": SAID, "protocolVersion": SAID}, {"tenant": TEXT})),
                max_size=2,
            ),
            "capabilities": extended(
                record(
                    {},
                    {
                        "streaming": st.none() | st.booleans(),
                        "extensions": st.lists(
                            extended(record({"uri": SAID.map("urn:".__add__)}, {"params": UNKNOWN})), max_size=2
                        ),
                    },
                )
            ),
            "defaultInputModes": st.lists(WORDS, max_size=2),
            "defaultOutputModes": st.just(["text/plain", "application/json"]) | st.lists(WORDS, max_size=2),
            "skills": st.lists(SKILLS, max_size=3, unique_by=lambda item: item["id"]),
        },
        {
            "provider": extended(record({"url": SAID, "organization": SAID}, {})),
            "iconUrl": st.none() | TEXT,
            "securitySchemes": st.dictionaries(SAID, UNKNOWN, max_size=2),
            "signatures": st.lists(record({"protected": SAID, "signature": SAID}, {"header": UNKNOWN}), max_size=2),
        },
    )
)


@given(FOREIGN)
@settings(max_examples=150, deadline=None)
def test_a_foreign_card_comes_back_with_every_field_it_had_unknown_ones_too(card: dict[str, Any]) -> None:
    before = copy.deepcopy(card)
    descriptor = from_agent_card(card)
    assert to_agent_card(descriptor) == before
    assert to_agent_card(loads_descriptor(dump_descriptor(descriptor))) == before, "and through the descriptor's file"


# --- descriptors -------------------------------------------------------------------------------

KEPT = record(
    {},
    {
        "fields": st.dictionaries(st.sampled_from(["name", "version", "skills", "capabilities"]), VALUES, max_size=2)
        | FOREIGN,
        "skills": st.dictionaries(LABELS, SKILLS | VALUES, max_size=2),
        "signed": VALUES,
    },
)
CARDS = record(
    {"name": NAMES},
    {
        "version": WORDS | st.just("unknown"),
        "summary": WORDS,
        "description": WORDS,
        "capabilities": st.lists(
            record(
                {"name": LABELS},
                {
                    "description": WORDS,
                    "tags": st.lists(WORDS, max_size=3),
                    "input_schema": SCHEMAS,
                    "output_schema": st.just({"title": "yes", "description": "a\nb"}),
                    "examples": st.lists(record({}, {"output": VALUES, "note": WORDS}), max_size=2),
                },
            ),
            max_size=3,
            unique_by=lambda item: item["name"],
        ),
        "data_types": st.lists(
            LABELS | record({"name": LABELS}, {"description": WORDS, "schema": SCHEMAS}),
            max_size=2,
            unique_by=lambda item: item["name"] if isinstance(item, dict) else item,
        ),
        "relationships": st.lists(
            record({"module": NAMES, "kind": WORDS.filter(bool)}, {"description": WORDS}), max_size=2
        ),
        "hints": record({}, {"role": WORDS, "guidance": WORDS}),
        "permissions": record({}, {"tools": st.lists(LABELS, max_size=3)}),
        "extends": NAMES | st.none(),
        "metadata": st.dictionaries(WORDS, VALUES, max_size=3)
        | st.fixed_dictionaries({"a2a_card": KEPT | VALUES}, optional={"owner": VALUES}),
    },
)
URLS = st.none() | st.just("https://a.example/a2a")


@given(CARDS, URLS)
@settings(max_examples=150, deadline=None)
def test_a_descriptor_comes_back_equal_whatever_it_says(values: dict[str, Any], url: str | None) -> None:
    descriptor = from_values(values)
    card = to_agent_card(descriptor, url=url)
    back = from_agent_card(card)
    assert back == descriptor
    assert json.loads(dump_descriptor(back, "json")) == values, "and what was not given is still not given"
    assert to_agent_card(from_agent_card(json.dumps(card)), url=url) == card

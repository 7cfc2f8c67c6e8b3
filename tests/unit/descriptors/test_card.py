"""Descriptors and agent cards of A2A 1.0: nothing is lost on the way, in either direction."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_comms.descriptors import (
    Capability,
    ModuleDescriptor,
    dump_descriptor,
    from_agent_card,
    loads_descriptor,
    to_agent_card,
    wider_grants,
)
from claude_comms.descriptors._card_schema import EXTENSION_URI
from claude_comms.descriptors._file import from_values
from claude_comms.errors import ConfigError, DescriptorError

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
OURS = extended(
    record(
        {
            "uri": st.just("urn:claude-comms:descriptor:1"),
            "params": st.just(dict[str, Any]())
            | st.just({"url": "https://stray.example/"})
            | st.just({"fields": {"hints": {"role": "a"}}}),
        },
        {"required": st.none() | st.booleans(), "description": st.none() | TEXT},
    )
)
"""Our extension, written anew by somebody else."""
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
                            extended(record({"uri": SAID.map("urn:".__add__)}, {"params": UNKNOWN})) | OURS,
                            max_size=2,
                        ).filter(lambda items: len([item for item in items if item["uri"] == EXTENSION_URI]) < 2),
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
        "extension": VALUES | record({}, {"at": VALUES, "fields": VALUES | OURS, "url": VALUES}),
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


@pytest.mark.parametrize(
    "kept",
    [
        5,
        {"signed": 3},
        {"fields": {"name": None}},
        {"fields": {"capabilities": 3, "version": []}},
        {"fields": {"extra": 1}, "skills": {"none": {}}},
        {"extension": {"at": 7, "fields": {"uri": "urn:other"}}},
    ],
)
def test_what_somebody_put_in_the_place_that_is_kept_for_cards_comes_back_too(kept: Any) -> None:
    descriptor = ModuleDescriptor(name="weather", metadata={"a2a_card": kept})
    assert from_agent_card(to_agent_card(descriptor)) == descriptor


# --- what goes where ---------------------------------------------------------------------------


def agent() -> dict[str, Any]:
    """A card of somebody else's."""
    return {
        "name": "Recipe Agent",
        "description": "Finds recipes.\n\nKnows what is in season.",
        "version": "1.4",
        "supportedInterfaces": [
            {"url": "https://recipes.example/a2a", "protocolBinding": "GRPC", "protocolVersion": "1.0"}
        ],
        "capabilities": {"streaming": True, "extensions": [{"uri": "urn:example:x", "params": {"deep": [1, 2.5]}}]},
        "defaultInputModes": ["text/plain"],
        "defaultOutputModes": ["text/plain", "image/png"],
        "skills": [
            {
                "id": "find-recipe",
                "name": "Find a recipe",
                "description": "Finds a recipe for what is in the fridge.",
                "tags": ["cooking"],
                "examples": ["What can I do with leeks?"],
                "outputModes": ["image/png"],
            }
        ],
        "signatures": [{"protected": "eyJhbGciOiJFUzI1NiJ9", "signature": "c2ln"}],
        "somethingNew": {"from": "a later revision"},
    }


def test_a_card_of_ours_that_was_written_anew_elsewhere_comes_back_as_it_was() -> None:
    card = to_agent_card(ModuleDescriptor(name="weather", data_types=("place",)))
    (ours,) = card["capabilities"]["extensions"]
    card["capabilities"]["extensions"] = [{**ours, "required": False, "since": 1}, {"uri": "urn:example:x"}]
    card["capabilities"]["streaming"] = False
    descriptor = from_agent_card(card)
    assert descriptor.data_types == ("place",)
    assert to_agent_card(descriptor) == card


def test_what_a_foreign_card_says_stands_in_the_fields_of_a_descriptor() -> None:
    descriptor = from_agent_card(agent())
    assert descriptor.name == "recipe-agent"
    assert (descriptor.version, descriptor.summary) == ("1.4", "Finds recipes.")
    assert descriptor.description == "Knows what is in season."
    (capability,) = descriptor.capabilities
    assert (capability.name, capability.tags) == ("find-recipe", ("cooking",))
    assert capability.examples[0].note == "What can I do with leeks?"
    assert wider_grants(descriptor) == ()


def test_a_descriptor_stands_in_the_fields_of_a_card_and_the_rest_in_one_extension() -> None:
    descriptor = ModuleDescriptor(
        name="weather",
        summary="Forecasts.",
        capabilities=(Capability(name="forecast", description="For a place.", input_schema={"type": "object"}),),
        data_types=("place",),
    )
    card = to_agent_card(descriptor)
    assert card["skills"] == [{"id": "forecast", "name": "forecast", "description": "For a place.", "tags": []}]
    assert card["description"] == "Forecasts."
    assert card["supportedInterfaces"] == []
    (extension,) = card["capabilities"]["extensions"]
    assert extension["uri"] == "urn:claude-comms:descriptor:1"
    assert extension["params"]["capabilities"] == {"forecast": {"fields": {"input_schema": {"type": "object"}}}}
    assert extension["params"]["fields"] == {"data_types": ["place"]}
    assert "required" not in extension, "whoever does not know it can use the card all the same"


def test_an_address_becomes_the_first_interface_and_is_no_part_of_the_descriptor() -> None:
    card = to_agent_card(from_agent_card(agent()), url="https://me.example/a2a")
    assert [item["url"] for item in card["supportedInterfaces"]] == [
        "https://me.example/a2a",
        "https://recipes.example/a2a",
    ]
    assert from_agent_card(card) == from_agent_card(agent())


@pytest.mark.parametrize("url", ["", "ftp://a.example", "https://user:secret@a.example/", "a.example"])
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="no http or https address") as caught:
        to_agent_card(ModuleDescriptor(name="weather"), url=url)
    assert "secret" not in str(caught.value)


def test_a_name_that_is_given_counts_and_the_cards_own_comes_back() -> None:
    descriptor = from_agent_card(agent(), name="cook")
    assert descriptor.name == "cook"
    card = to_agent_card(descriptor)
    assert card["name"] == "Recipe Agent"
    assert from_agent_card(card) == descriptor


def test_skills_that_no_capability_can_be_called_like_get_names_of_their_own() -> None:
    card = agent()
    skill = card["skills"][0]
    card["skills"] = [{**skill, "id": name} for name in ("a b", " a b", "x" * 300, "x" * 299, "\x1b")]
    descriptor = from_agent_card(card)
    names = [capability.name for capability in descriptor.capabilities]
    assert names[:2] == ["a b", "a b 2"]
    assert len(set(names)) == 5
    assert to_agent_card(descriptor) == card


# --- cards and descriptors that somebody edits -------------------------------------------------


def test_an_edit_of_a_card_that_came_from_us_counts() -> None:
    described = Capability(name="forecast", description="  For\na place. ", tags=("a",), input_schema=True)
    card = to_agent_card(ModuleDescriptor(name="weather", summary="Two\nlines", capabilities=(described,)))
    card["description"] = "Forecasts, and more."
    card["version"] = "2"
    card["skills"][0]["description"] = "For any place."
    card["skills"].append({"id": "history", "name": "History", "description": "What was.", "tags": []})
    descriptor = from_agent_card(card)
    assert (descriptor.summary, descriptor.version) == ("Forecasts, and more.", "2")
    forecast, history = descriptor.capabilities
    assert (forecast.description, forecast.input_schema) == ("For any place.", True)
    assert history.description == "What was."
    del card["skills"][0]
    assert [item.name for item in from_agent_card(card).capabilities] == ["history"]


def test_an_edit_of_a_descriptor_that_came_from_a_card_goes_out() -> None:
    values = json.loads(dump_descriptor(from_agent_card(agent()), "json"))
    values["summary"] = "Finds dishes."
    values["capabilities"][0]["tags"] = ["dishes"]
    values["capabilities"].append({"name": "shop"})
    descriptor = from_values(values)
    card = to_agent_card(descriptor)
    assert card["description"] == "Finds dishes.\n\nKnows what is in season."
    assert [skill["tags"] for skill in card["skills"]] == [["dishes"], []]
    assert card["skills"][0]["outputModes"] == ["image/png"]
    assert card["somethingNew"] == agent()["somethingNew"]
    assert from_agent_card(card) == descriptor


def test_signatures_are_kept_as_they_came_and_left_out_once_anything_has_changed() -> None:
    descriptor = from_agent_card(agent())
    assert to_agent_card(descriptor)["signatures"] == agent()["signatures"]
    edited = from_values({**json.loads(dump_descriptor(descriptor, "json")), "version": "9"})
    assert "signatures" not in to_agent_card(edited)
    assert "signatures" not in to_agent_card(descriptor, url="https://me.example/a2a")


def test_a_class_that_no_file_can_name_has_no_card() -> None:
    class Station(ModuleDescriptor):
        height_m: int = 0

    with pytest.raises(ConfigError, match="entry point"):
        to_agent_card(Station(name="hilltop", height_m=3))


# --- what is refused ---------------------------------------------------------------------------

REQUIRED = ["name", "description", "version", "supportedInterfaces", "capabilities", "defaultInputModes",
            "defaultOutputModes", "skills"]  # fmt: skip


def problems_of(card: Any) -> str:
    with pytest.raises(DescriptorError) as caught:
        from_agent_card(card, path="card.json")
    assert str(caught.value).startswith("card.json: ")
    return str(caught.value)


@pytest.mark.parametrize("field", REQUIRED)
def test_a_field_that_a2a_requires_must_be_there(field: str) -> None:
    card = agent()
    del card[field]
    assert f'"{field}" is a required property' in problems_of(card)


@pytest.mark.parametrize("field", ["id", "name", "description", "tags"])
def test_a_field_that_a2a_requires_of_a_skill_must_be_there(field: str) -> None:
    card = agent()
    del card["skills"][0][field]
    assert f'skills[0]: "{field}" is a required property' in problems_of(card)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name:"),
    ({"version": 1}, "version:"),
    ({"capabilities": []}, "capabilities:"),
    ({"capabilities": {"streaming": "yes"}}, "capabilities.streaming:"),
    ({"capabilities": {"extensions": [{}]}}, "capabilities.extensions[0]:"),
    ({"supportedInterfaces": [{"url": "https://a.example"}]}, "supportedInterfaces[0]:"),
    ({"defaultInputModes": "text/plain"}, "defaultInputModes:"),
    ({"provider": {"url": "https://a.example"}}, "provider:"),
    ({"signatures": [{"protected": "x"}]}, "signatures[0]:"),
    ({"skills": [{"id": "a", "name": "a", "description": "a", "tags": [1]}]}, "skills[0].tags[0]:"),
    ({"skills": agent()["skills"] * 2}, "'find-recipe' is already skills[0]"),
    ({"skills": [{**agent()["skills"][0], "id": str(number)} for number in range(501)]}, "skills:"),
    ({"skills": [{**agent()["skills"][0], "tags": ["a"] * 51}]}, "has 51 entries of at most 50"),
    ({"description": "\ud800"}, "card.json:"),
]


@pytest.mark.parametrize(("change", "said"), WRONG)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], said: str) -> None:
    assert said in problems_of({**agent(), **change})


def ours(params: Any) -> dict[str, Any]:
    return {**agent(), "capabilities": {"extensions": [{"uri": "urn:claude-comms:descriptor:1", "params": params}]}}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        (None, "params"),
        ({"more": 1}, "params"),
        ({"fields": []}, "params.fields"),
        ({"not_given": ["name"]}, "name: is missing"),
        ({"fields": {"name": "Bad Name"}}, "not a module's name"),
        ({"fields": {"sumary": "x"}}, "did you mean summary?"),
        ({"capabilities": {"find-recipe": {"fields": {"input_schema": {"type": "objekt"}}}}}, "not a JSON Schema"),
        ({"fields": {"class": "no-such-class"}}, "no-such-class"),
    ],
)
def test_what_is_wrong_in_our_extension_is_as_wrong_as_in_a_file(params: Any, said: str) -> None:
    assert said in problems_of(ours(params))


def test_our_extension_is_there_once() -> None:
    card = ours({})
    card["capabilities"]["extensions"] *= 2
    assert "is there twice" in problems_of(card)


def test_a_card_of_the_protocol_before_is_told_to_be_one() -> None:
    assert "A2A 0.3" in problems_of({"name": "a", "url": "https://a.example", "protocolVersion": "0.3.0"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "is not of type"),
        ("{", "not JSON"),
        ('{"name": "a", "name": "b"}', "line 1: name: is there twice"),
        ('{"x": ' + "[" * 100 + "]" * 100 + "}", "more than 40 levels deep"),
        ("[" * 100_000, "more than 40 levels deep"),
        ('{"x": [' + "1," * 40_000 + "1]}", "more than 40000 values"),
        ('{"name": "' + "x" * 1024 * 1024 + '"}', "at most 1,048,576 are read"),
        ('{"name": "\\ud800"}', "not valid Unicode"),
        ('{"name": 1e999}', "too large"),
    ],
)
def test_hostile_text_is_refused_with_its_place(text: str, said: str) -> None:
    assert said in problems_of(text)


def test_a_card_that_makes_more_than_a_descriptors_file_holds_is_refused() -> None:
    assert "at most 262,144 are read" in problems_of({**agent(), "somethingNew": "x" * 300_000})


def test_values_that_are_no_json_are_refused() -> None:
    assert "cannot be sent" in problems_of({**agent(), "somethingNew": object()})

"""What `--show-prompt` shows."""

from __future__ import annotations

import json

from claude_comms.context import ContextGenerator, Descriptor, describe, prompt_as_dict
from claude_comms.types import HistoryMessage, Prompt, Role, TokenCount


def built(generator: ContextGenerator, marker: Descriptor, arangodb: Descriptor, question: str = "why?") -> Prompt:
    history = [HistoryMessage(Role.QUESTION, "first"), HistoryMessage(Role.ANSWER, "second")] * 2
    return generator.build(
        marker,
        arangodb,
        question,
        history=[*history, HistoryMessage(Role.QUESTION, "unanswered")],
        count=lambda text: TokenCount(len(text), estimated=False),
    )


def test_the_parts_stand_in_the_order_they_are_sent(
    generator: ContextGenerator, marker: Descriptor, arangodb: Descriptor
) -> None:
    prompt = built(generator, marker, arangodb)
    shown = describe(prompt)
    titles = [line.strip("= ") for line in shown.splitlines() if line.startswith("=== ")]
    stop = "cache breakpoint"
    assert titles == [
        *("system: target", stop, "system: source", stop),
        *("user", "assistant", "user", "assistant", stop, "user"),
    ]
    for text in (*(block.text for block in prompt.system), prompt.message, prompt.version):
        assert text in shown


def test_it_tells_the_tokens_and_whether_they_are_estimated(
    generator: ContextGenerator, marker: Descriptor, arangodb: Descriptor
) -> None:
    counted = built(generator, marker, arangodb)
    assert describe(counted).startswith(f"marker → arangodb: template query, {counted.tokens.tokens:,} tokens\n")
    assert "tokens, estimated" in describe(generator.build(marker, arangodb, "why?")).splitlines()[0]


def test_it_tells_what_was_left_out(generator: ContextGenerator, marker: Descriptor, arangodb: Descriptor) -> None:
    shown = describe(built(generator, marker, arangodb))
    assert "left out: 1 messages without a partner (only whole turns are sent)" in shown


def test_it_is_safe_to_print(generator: ContextGenerator, marker: Descriptor, arangodb: Descriptor) -> None:
    shown = describe(built(generator, marker, arangodb, "red \x1b[31m and \u202eback"))
    assert "red [31m and back" in shown


def test_the_json_form_has_the_texts_unchanged(
    generator: ContextGenerator, marker: Descriptor, arangodb: Descriptor
) -> None:
    prompt = built(generator, marker, arangodb, "red \x1b[31m?")
    shown = json.loads(json.dumps(prompt_as_dict(prompt)))
    assert [(block["text"], block["cache_breakpoint"]) for block in shown["system"]] == [
        (block.text, True) for block in prompt.system
    ]
    assert [(m["role"], m["cache_breakpoint"]) for m in shown["messages"]] == [
        ("user", False),
        ("assistant", False),
        ("user", False),
        ("assistant", True),
        ("user", False),
    ]
    assert shown["messages"][-1]["text"] == prompt.message
    assert shown["tokens"] == prompt.tokens.tokens
    assert shown["tokens_estimated"] is False
    assert shown["omitted"][0]["count"] == 1
    assert (shown["source"], shown["target"], shown["question"]) == ("marker", "arangodb", "red \x1b[31m?")

"""Templates: what they may say, and how what is wrong in one is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.context import ContextGenerator, Descriptor
from claude_comms.errors import TemplateError
from claude_comms.text import fence

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = "How should I store my page blocks?"

Ask = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "own.j2") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def ask(tmp_path: Path, marker: Descriptor, arangodb: Descriptor) -> Ask:
    """What stands before the question, from a template of the test's own directory."""

    def ask(template: str = "own", **context: Any) -> str:
        generator = ContextGenerator(template_dirs=[str(tmp_path)], components={"glossary": lambda given: "blocks"})
        prompt = generator.build(marker, arangodb, QUESTION, template=template, context=context, data={"a": 1})
        assert prompt.template == template
        assert prompt.message.endswith(fence("question", QUESTION))
        return prompt.message.partition("The question from marker:")[0].strip()

    return ask


# --- those shipped -------------------------------------------------------------------------------


def test_every_shipped_template_is_sound(generator: ContextGenerator) -> None:
    assert generator.templates() == ["error", "follow-up", "multi-turn", "query", "response"]
    assert generator.check() == []


@pytest.mark.parametrize(
    ("template", "context", "fenced", "says"),
    [
        ("response", {"answer": "Use </b>", "outcome": "it ran"}, ["answer", "outcome"], "has worked with this answer"),
        ("error", {"error": "boom\n{{ x }}", "tried": "all", "attempt": 2}, ["error", "tried"], "(attempt 2)"),
        ("follow-up", {"about": "the first step"}, ["about"], "follows up on this"),
        ("follow-up", {}, [], "follows up on your last answer."),
        ("multi-turn", {"plan": ["model it", "load it"], "step": 2}, [], "has 2 steps, and this is step 2"),
    ],
)
def test_a_shipped_template_shows_its_parameters_fenced_before_the_components(
    ask: Ask, template: str, context: dict[str, Any], fenced: list[str], says: str
) -> None:
    text = ask(template, **context)
    assert says in text
    for name in fenced:
        assert fence(name, context[name]) in text
    assert text.index(says) < text.index("<capabilities-") < text.index("<glossary-") < text.index("<data-")


def test_multi_turn_lays_out_each_step(ask: Ask) -> None:
    text = ask("multi-turn", plan=["model it", "load it"], step=2)
    assert f"Step 1:\n{fence('step', 'model it')}\nStep 2 (this one):\n{fence('step', 'load it')}" in text


# --- from files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own.j2", "own.md.j2"])
def test_a_template_comes_from_a_file(write: Callable[..., Path], ask: Ask, name: str) -> None:
    write("{{ source_name }} asks {{ target_name }}.\n{{ glossary }}\n{{ data }}", name)
    text = ask()
    assert text.startswith("marker asks arangodb.\nGlossary:")
    assert '{"a": 1}' in text
    assert "<capabilities-" not in text


def test_a_template_extends_another_and_fills_its_blocks(write: Callable[..., Path], ask: Ask) -> None:
    write('{# params: mood #}{% extends "query" %}{% block closing %}Be {{ mood }}.{% endblock %}')
    text = ask(mood="brief")
    assert text.endswith("Be brief.")
    assert text.index("<capabilities-") < text.index("<glossary-") < text.index("<data-") < text.index("Be brief.")


def test_a_component_that_a_template_places_itself_does_not_come_twice(write: Callable[..., Path], ask: Ask) -> None:
    write('{% extends "query" %}{% block closing %}{{ glossary }}{% endblock %}')
    assert ask().count("<glossary-") == 1


def test_a_user_may_replace_a_shipped_template_and_build_on_it(write: Callable[..., Path], ask: Ask) -> None:
    write('{% extends "shipped/query" %}{% block closing %}Ours.{% endblock %}', "query.j2")
    assert ask("query").endswith("Ours.")
    assert ask("follow-up").endswith("Ours.")


def test_the_first_directory_wins(tmp_path: Path, marker: Descriptor, arangodb: Descriptor) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own.j2").write_text(f"from {name}")
    generator = ContextGenerator(template_dirs=[tmp_path / "b", tmp_path / "a"])
    assert generator.build(marker, arangodb, QUESTION, template="own").message.startswith("from b")


def test_what_a_template_makes_is_not_escaped_or_rewritten(write: Callable[..., Path], ask: Ask) -> None:
    write("{# params: text #}{{ text | fenced('text') }}")
    text = " <b>&\r\n\n\n\n{{ 7 * 7 }}\t</b> "
    assert ask(text=text) == fence("text", text)


def test_the_filters_do_what_their_names_say(write: Callable[..., Path], ask: Ask) -> None:
    write("""{# params: words #}{{ words | join(", ") }}|{{ "aba" | replace("a", "c") }}|{{ words | json }}""")
    assert ask(words=["x", 1, "é"]) == 'x, 1, é|cbc|["x", 1, "é"]'


def test_the_version_changes_with_a_template_and_with_its_parent(
    write: Callable[..., Path], tmp_path: Path, marker: Descriptor, arangodb: Descriptor
) -> None:
    def version() -> str:
        generator = ContextGenerator(template_dirs=[tmp_path])
        return generator.build(marker, arangodb, QUESTION, template="own").version

    write("{% block a %}{% endblock %}", "parent.j2")
    write('{% extends "parent" %}')
    versions = [version()]
    write('{% extends "parent" %}{# changed #}')
    versions.append(version())
    write("{% block a %}{# changed #}{% endblock %}", "parent.j2")
    versions.append(version())
    assert len(set(versions)) == 3


# --- parameters ----------------------------------------------------------------------------------


def test_parameters_have_defaults_and_come_from_parents_too(write: Callable[..., Path], ask: Ask) -> None:
    write("{# params: a, b='x, y', c=[1, 2] #}{{ a }}/{{ b }}/{{ c | json }}/{% block d %}{% endblock %}", "parent.j2")
    write('{#- params: d, a="child" -#}{% extends "parent" %}{% block d %}{{ d }}{% endblock %}')
    assert ask(d=None) == "child/x, y/[1, 2]/None"
    assert ask("parent", a="own") == "own/x, y/[1, 2]/"


def test_a_missing_parameter_is_named(write: Callable[..., Path], ask: Ask) -> None:
    path = write("{# params: one, two, three=3 #}{{ one }}{{ two }}{{ three }}")
    with pytest.raises(TemplateError, match=r"needs two\. Pass") as caught:
        ask(one=1)
    assert (caught.value.path, caught.value.line) == (path, 1)


def test_a_surplus_parameter_is_named_and_the_near_one_suggested(write: Callable[..., Path], ask: Ask) -> None:
    path = write("{# params: mood='' #}{{ mood }}")
    with pytest.raises(TemplateError, match=r"'modd'. Did you mean 'mood'\? Parameters: mood") as caught:
        ask(modd="glad")
    assert (caught.value.path, caught.value.line) == (path, 1)
    with pytest.raises(TemplateError, match=r"'protocoll'. Did you mean 'protocol'\?"):
        ask(protocoll="x")


@pytest.mark.parametrize("signature", ["a=1, b", "*a", "a, /", "a b", "a=b", "a=__import__('os')", "a, a", "1"])
def test_parameters_that_cannot_be_read_are_told(write: Callable[..., Path], ask: Ask, signature: str) -> None:
    path = write(f"\n{{# params: {signature} #}}")
    with pytest.raises(TemplateError, match="parameters cannot be read") as caught:
        ask()
    assert (caught.value.path, caught.value.line) == (path, 2)


def test_a_parameter_cannot_be_named_as_a_component(write: Callable[..., Path], ask: Ask) -> None:
    write("{# params: glossary #}")
    with pytest.raises(TemplateError, match="'glossary' is a component"):
        ask()


# --- what is wrong in a template -----------------------------------------------------------------


def test_an_unknown_template_is_told_with_those_known(ask: Ask) -> None:
    with pytest.raises(TemplateError, match=r"'querry'. Did you mean 'query'\? Known: error, follow-up") as caught:
        ask("querry")
    assert caught.value.path is None


@pytest.mark.parametrize("name", ["../own", "/etc/passwd", "own.j2", "", "a/b", "."])
def test_a_template_name_is_no_path(write: Callable[..., Path], ask: Ask, name: str) -> None:
    write("x")
    with pytest.raises(TemplateError, match="no template named"):
        ask(name)


WRONG = {
    "line 1\n{% if %}": (2, "Expected an expression"),
    "\n\n{{ data ": (3, "unexpected end of template"),
    "\n{{ dato }}": (2, r"nothing is named 'dato'. Did you mean 'data'\?"),
    "\n{% for x in data %}{% endfor %}{{ x }}": (2, "nothing is named 'x'"),
    "\n{{ data | uper }}": (2, "No filter named 'uper'"),
    '\n{% extends "querry" %}': (2, r"no template named 'querry'. Did you mean 'query'\?"),
    '\n{% include "../../etc/passwd" %}': (2, "no template named"),
    "\n{% extends data %}": (2, "must be written out"),
    '\n\n{% extends "own" %}': (3, "builds on itself: own → own"),
    "\n{{ data.nothing }}": (2, "has no attribute 'nothing'"),
    "\n{{ 1 / 0 }}": (2, "division by zero"),
    "\n{{ [][3] }}": (2, "list object has no element 3"),
    "\n{{ data() }}": (2, "not callable"),
    # What the sandbox refuses:
    "\n{{ data.__class__ }}": (2, "SecurityError"),
    "\n{{ ''.__class__.__mro__ }}": (2, "SecurityError"),
    "\n{{ [].append(1) }}": (2, "SecurityError"),
    "\n{{ 'a'.ljust(10 ** 9) }}": (2, "SecurityError"),
    "\n{{ '%1000000000d' % 1 }}": (2, "% does not format text"),
    "\n{{ '{:1000000000}'.format(1) }}": (2, "SecurityError"),
    "\n{{ 'a' * 10000000 }}": (2, "result this large"),
    "\n{{ 10000000 * [1] }}": (2, "result this large"),
    "\n{{ 9 ** 9 ** 9 }}": (2, "result this large"),
    "\n{{ range(1000) | join('a' * 100000) | length }}": (2, "a text this large"),
    "\n{{ ''.join(['a']) }}": (2, "SecurityError"),
    "\n{{ ('a' * 10000) | replace('a', 'a' * 10000) | length }}": (2, "a text this large"),
    "\n{{ (['a' * 100000] * 10000) | json | length }}": (2, "a text this large"),
    "\n{{ lipsum(n=1000) }}": (2, "nothing is named 'lipsum'"),
    "\n{{ data | center(10) }}": (2, "No filter named 'center'"),
    "\n{% for x in range(10 ** 6) %}{% endfor %}": (2, "more than 100,000 steps"),
    "\n{% for x in range(1000) %}{% for y in range(1000) %}{% endfor %}{% endfor %}": (2, "more than 100,000 steps"),
    "\n{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}": (2, "steps"),
    "\n{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": (2, "without an end"),
    "\n{% for x in range(1000) %}{{ 'a' * 10000 }}\n{% endfor %}": (None, "1,000,000 characters longer"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_in_a_template_is_told_with_file_and_line(
    write: Callable[..., Path], ask: Ask, text: str
) -> None:
    line, says = WRONG[text]
    path = write(text)
    with pytest.raises(TemplateError, match=says) as caught:
        ask()
    assert caught.value.path == path
    assert line is None or caught.value.line == line
    assert str(caught.value).startswith(f"{path}:")


def test_an_error_in_a_parent_is_told_at_the_parents_line(write: Callable[..., Path], ask: Ask) -> None:
    parent = write("\n\n{% block a %}{{ data.nothing }}{% endblock %}", "parent.j2")
    write('{% extends "parent" %}')
    with pytest.raises(TemplateError) as caught:
        ask()
    assert (caught.value.path, caught.value.line) == (parent, 3)
    parent.write_text("\n{% if %}")
    with pytest.raises(TemplateError) as caught:
        ask()
    assert (caught.value.path, caught.value.line) == (parent, 2)


def test_templates_that_build_on_each_other_are_refused(write: Callable[..., Path], ask: Ask) -> None:
    write('{% extends "b" %}', "a.j2")
    path = write('\n{% include "a" %}', "b.j2")
    with pytest.raises(TemplateError, match="builds on itself: a → b → a") as caught:
        ask("a")
    assert (caught.value.path, caught.value.line) == (path, 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"a\n\xff", "not UTF-8"), (b"x" * 1_000_001, "larger than"), (b"{{ " + b"(" * 5000, "nested too deeply")],
)
def test_a_file_that_is_no_template_is_told(tmp_path: Path, ask: Ask, content: bytes, says: str) -> None:
    path = tmp_path / "own.j2"
    path.write_bytes(content)
    with pytest.raises(TemplateError, match=says) as caught:
        ask()
    assert caught.value.path == path


def test_a_directory_that_is_missing_is_told(tmp_path: Path, marker: Descriptor, arangodb: Descriptor) -> None:
    generator = ContextGenerator(template_dirs=[tmp_path / "none"])
    with pytest.raises(TemplateError, match="no such directory") as caught:
        generator.build(marker, arangodb, QUESTION)
    assert caught.value.path == tmp_path / "none"
    assert [error.path for error in generator.check()] == [tmp_path / "none"]


def test_check_tells_of_every_wrong_template(write: Callable[..., Path], tmp_path: Path) -> None:
    first, second = write("{% if %}", "a.j2"), write("{{ unknown }}", "b.j2")
    write("fine", "c.j2")
    assert [error.path for error in ContextGenerator(template_dirs=[tmp_path]).check()] == [first, second]

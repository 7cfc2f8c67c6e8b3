"""The context generator: two descriptors, a history and a question become a Prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from claude_comms.context._card import Cards
from claude_comms.context._draft import Draft, omitted, version
from claude_comms.context._fit import Pieces, fit
from claude_comms.context._history import flatten, whole_turns
from claude_comms.context._library import Library, did_you_mean
from claude_comms.context._pairing import SYSTEM_COMPONENTS, pair_blocks
from claude_comms.context._words import json_text
from claude_comms.context.components import COMPONENTS, ComponentInput, own_texts
from claude_comms.context.tokens import estimate_tokens
from claude_comms.errors import ContextError, TemplateError
from claude_comms.jsonable import to_json_value
from claude_comms.text import fence, one_line
from claude_comms.types import Pair, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from claude_comms.context._card import Card
    from claude_comms.context._library import Loaded
    from claude_comms.context.components import Component
    from claude_comms.context.descriptor import Descriptor, Schema
    from claude_comms.types import HistoryMessage, TokenCounter

__all__ = ["ContextGenerator"]

_MOST_DETAILS = 6
_LEAST_SCORE = 0.2
_DETAILS_WITHOUT_MATCH = 3
_GIVEN = ("source_name", "target_name", "own_components")


class ContextGenerator:
    """Builds prompts. Pure apart from reading template files when they are first used; safe for threads.

    `template_dirs` hold the user's templates, ``NAME.j2`` or ``NAME.md.j2``, the first directory first; one may
    bear the name of a shipped template (query, response, error, follow-up, multi-turn), which stays within reach
    as ``shipped/NAME``. A template declares its parameters in a comment at its top, written as in a Python
    signature: ``{# params: error, attempt=1 #}``; what it extends or includes adds its own.

    Templates make what stands before the question; the question itself always follows, verbatim. They see each
    component by name as a ready paragraph, empty where there is nothing to say: source, target, relationship,
    protocol, capabilities, history (the note that turns were left out), data, schema, question and the own ones
    in `components`; also `source_name`, `target_name`, and `own_components`, the paragraphs of those own
    components that the template does not name itself. Filters besides Jinja2's harmless ones: ``fenced("label")``
    for foreign text, ``json``, and ``section``, which puts a blank line behind a text that is not empty.
    """

    def __init__(
        self, *, template_dirs: Sequence[str | Path] = (), components: Mapping[str, Component] | None = None
    ) -> None:
        self._components = dict(components or {})
        for name in self._components:
            _check_name(name)
        self._library = Library(template_dirs, (*COMPONENTS, *_GIVEN, *self._components))
        self._cards = Cards()

    def build(
        self,
        source: Descriptor,
        target: Descriptor,
        question: str,
        *,
        history: Sequence[HistoryMessage] = (),
        data: Any = None,
        template: str = "query",
        context: Mapping[str, Any] | None = None,
        schema: Schema | None = None,
        budget_tokens: int = 100_000,
        count: TokenCounter = estimate_tokens,
    ) -> Prompt:
        """The prompt for `question`, at most `budget_tokens` long by `count`.

        `data` is anything that `jsonable.to_json_value` takes. `schema` asks for an answer that is JSON and matches
        it. `context` holds the template's parameters, and overrides of components: a key that names a component
        replaces its text. Overriding source, target, relationship or protocol changes the system blocks, and so
        costs the cached prefix. Every override is fenced as foreign text, save `protocol`, which instructs.

        TemplateError: unknown template, a parameter missing or too many, or anything wrong in the template.
        ContextTooLargeError: it does not fit without history and details; data is never cut.
        ContextError: the question is empty or holds NUL or a lone surrogate; a value that JSON cannot hold; an own
        component or `to_prompt` that fails.
        """
        _check_question(question)
        loaded = self._library.get(template)
        overrides, params = self._split(loaded, context or {})
        given = ComponentInput(source, target, question, tuple(history), to_json_value(data), params)
        draft = self._draft(given, loaded, overrides, schema)
        turns, alone = whole_turns(history)
        pieces = Pieces(
            system_tokens=draft.blocks.tokens(count),
            turns=turns,
            details=draft.details,
            question=question,
            data=draft.parts["data"],
            message=lambda details, cut: self._message(draft, details, cut),
        )
        fitted = fit(pieces, budget_tokens, count)
        return Prompt(
            pair=Pair(draft.source.name, draft.target.name),
            system=draft.blocks.system,
            history=flatten(turns[fitted.cut :]),
            message=fitted.message,
            question=question,
            template=template,
            version=version(draft, given, budget_tokens, fitted.message),
            tokens=fitted.total,
            omitted=omitted(draft, fitted, alone),
            passages=draft.blocks.passages,
        )

    def check(self) -> list[TemplateError]:
        """What is wrong with the templates, those shipped included; at most one error for each."""
        found: list[TemplateError] = []
        try:
            names = list(self._library.paths)
        except TemplateError as error:
            return [error]
        for name in names:
            try:
                self._library.get(name)
            except TemplateError as error:
                found.append(error)
        return found

    def templates(self) -> list[str]:
        """The names of all templates, sorted."""
        return sorted(name for name in self._library.paths if "/" not in name)

    def _split(self, loaded: Loaded, context: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        """`context` as overrides of components and the template's parameters, defaults included."""
        values = cast("dict[str, Any]", to_json_value(context, field="context"))
        replaceable = ({*COMPONENTS, *self._components}) - {"question"}
        overrides = {name: value for name, value in values.items() if name in replaceable}
        for name, value in overrides.items():
            if not isinstance(value, str):
                raise ContextError(f"context.{name}: overrides a component and must be text.")
        params = {name: value for name, value in values.items() if name not in replaceable}
        _check_params(loaded, params, replaceable)
        return overrides, {**loaded.defaults, **params}

    def _draft(
        self, given: ComponentInput, loaded: Loaded, overrides: Mapping[str, str], schema: Schema | None
    ) -> Draft:
        source, target = self._cards.of(given.source), self._cards.of(given.target)
        blocks = pair_blocks(source, target, {k: v for k, v in overrides.items() if k in SYSTEM_COMPONENTS})
        own = own_texts(self._components, given, overrides)
        data = overrides.get("data", "" if given.data is None else json_text(given.data))
        shape = overrides.get("schema", "" if schema is None else json_text(to_json_value(schema, field="schema")))
        chosen = [] if "capabilities" in overrides else _chosen(target, given.question)
        parts = {
            **blocks.components,
            **{name: _fenced(f"{name.replace('_', ' ').capitalize()}:", name, text) for name, text in own.items()},
            "data": _fenced(f"The data that {one_line(source.name)} sends along, as JSON:", "data", data),
            "schema": _fenced(_SCHEMA_INTRO, "schema", shape),
            "question": fence("question", given.question),
            "source_name": one_line(source.name),
            "target_name": one_line(target.name),
        }
        rest = tuple(parts[name] for name in own if name not in loaded.mentions)
        return Draft(
            source=source,
            target=target,
            blocks=blocks,
            loaded=loaded,
            overrides=overrides,
            parts=parts,
            variables={**parts, "own_components": rest, **given.params},
            own=own,
            schema=shape,
            details=[target.details[position] for position in chosen],
        )

    def _message(self, draft: Draft, details: int, cut: int) -> str:
        """The last user message with the best `details`, when `cut` turns are left out."""
        about = draft.overrides.get("capabilities", "\n\n".join(draft.details[:details]))
        note = f"The {cut} oldest turns of this conversation are left out here, because it has grown too long."
        if cut == 1:
            note = "The oldest turn of this conversation is left out here, because it has grown too long."
        history = draft.overrides.get("history")
        variables = {
            **draft.variables,
            "capabilities": _fenced(
                f"What {draft.parts['target_name']} says of the capabilities nearest to the question:",
                "capabilities",
                about,
            ),
            "history": _fenced("The conversation so far:", "history", history) if history else note if cut else "",
        }
        before = self._library.render(draft.loaded, variables).strip()
        asked = f"The question from {draft.parts['source_name']}:\n\n{draft.parts['question']}"
        return f"{before}\n\n{asked}" if before else asked


_SCHEMA_INTRO = (
    "Answer with one JSON value that matches this JSON Schema (2020-12), and nothing else: no words around it, no code"
    " fence. Only a CANNOT or ASK line may stand in its place:"
)


def _fenced(intro: str, label: str, text: str) -> str:
    return f"{intro}\n\n{fence(label.replace('_', '-'), text)}" if text else ""


def _chosen(target: Card, question: str) -> list[int]:
    """Positions of the capabilities to detail, best first: a few, and none far behind the best.

    Where none shares a word with the question (it may be in another language) the first few stand in.
    """
    ranked = target.rank(question)[:_MOST_DETAILS]
    chosen = [position for position, score in ranked if score >= _LEAST_SCORE * ranked[0][1]]
    return chosen or list(range(min(_DETAILS_WITHOUT_MATCH, len(target.details))))


def _check_question(question: str) -> None:
    if not question.strip():
        raise ContextError("the question is empty. Say what you want to know.")
    if "\0" in question:
        raise ContextError(f"the question holds a NUL character at {question.index(chr(0))}. Remove it.")
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ContextError(
            f"the question is not valid Unicode (lone surrogate at {error.start}). Pass clean text."
        ) from error


def _check_name(name: str) -> None:
    if name in COMPONENTS or name in _GIVEN:
        raise ContextError(f"component {name!r} is built in. Choose another name, or override it with context=.")
    if not (name.isascii() and name.isidentifier()):
        raise ContextError(f"component name {name!r}: use letters, digits and _, so that templates can name it.")


def _check_params(loaded: Loaded, params: Mapping[str, Any], components: set[str]) -> None:
    missing = sorted(loaded.required - params.keys())
    if missing:
        raise TemplateError(
            f"template {loaded.name!r} needs {', '.join(missing)}. Pass them in context=, on the command line with"
            f" {' '.join(f'--param {name}=VALUE' for name in missing)}.",
            path=loaded.path,
            line=1,
        )
    known = {*loaded.required, *loaded.defaults}
    for name in params:
        if name == "question":
            raise TemplateError("the question cannot be overridden. Pass it as the question.", path=loaded.path, line=1)
        if name not in known:
            takes = ", ".join(sorted(known)) or "none"
            raise TemplateError(
                f"template {loaded.name!r} has no parameter, and no component is named, {name!r}."
                f"{did_you_mean(name, known | components)} Parameters: {takes}."
                f" Components: {', '.join(sorted(components))}.",
                path=loaded.path,
                line=1,
            )

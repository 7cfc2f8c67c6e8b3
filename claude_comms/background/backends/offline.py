"""Backend ``offline``: no model. It quotes what the target's descriptor says about the question.

It never pretends to be a model: the first line says so, the rest are quotes with their places, and the same
question about the same descriptor gets the same text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio.lowlevel

from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import BackendUnavailableError, PermissionDeniedError
from claude_comms.ranking import TextIndex
from claude_comms.text import one_line, printable
from claude_comms.types import OFFLINE, BackendFeatures, Delta, Passage, TurnResult, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from claude_comms.types import Emit, InstanceSpec, Prompt, TurnRequest

__all__ = ["OfflineBackend", "OfflineSession"]

_SUBJECTS = 4
_QUOTE_CHARACTERS = 1_500
_NAMES = 40
_DETAILS = ("schema", "example")
_KINDS = {"data_type": "data type", "schema": "schema", "example": "example"}


class OfflineBackend:
    """Always usable, costs nothing, has no memory and no tools."""

    def __init__(self) -> None:
        self._closed = False

    @property
    def name(self) -> str:
        """``offline``."""
        return OFFLINE

    @property
    def features(self) -> BackendFeatures:
        """Its text comes in pieces. It is done too quickly to be interrupted."""
        return BackendFeatures(streaming=True)

    async def open(self, spec: InstanceSpec) -> OfflineSession:
        """A session. PermissionDeniedError for any grant; BackendUnavailableError once closed."""
        if self._closed:
            raise BackendUnavailableError("backend offline is closed. Make another one.", backend=OFFLINE)
        if spec.grants:
            raise PermissionDeniedError(
                f"backend offline has no tools and cannot grant {spec.grants[0]!r}. Ask without grants.",
                grant=spec.grants[0],
            )
        return OfflineSession()

    async def health(self) -> BackendHealth:
        """Always usable."""
        return BackendHealth(usable=True, reason="it needs nothing; it quotes descriptors and asks no model")

    async def close(self) -> None:
        """Open no more sessions."""
        self._closed = True


class OfflineSession:
    """Answers from each request's own passages; keeps nothing."""

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Quote what speaks about the question, one piece of text for each subject."""
        pieces: list[str] = []
        for piece in _answer(request.prompt):
            await anyio.lowlevel.checkpoint()
            pieces.append(piece)
            await emit(Delta(piece))
        return TurnResult("".join(pieces), OFFLINE, "end_turn", Usage(cost_usd=0.0))

    async def interrupt(self) -> None:
        """Nothing: a turn takes no time."""

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass(slots=True)
class _Subject:
    """One thing that a descriptor speaks about, with what it says."""

    name: str
    kind: str
    passages: list[Passage] = field(default_factory=list[Passage])


def _answer(prompt: Prompt) -> Iterator[str]:
    target = one_line(prompt.pair.target)
    yield f"[offline] No model was asked. These are quotes from the descriptor of {target}.\n"
    found = _relevant(prompt)
    for subject in found:
        yield "\n" + "\n".join(_section(subject))
    if not found:
        yield f"\nNothing in the descriptor of {target} speaks about this question.\n"
    yield from _other_capabilities(prompt.passages, found, target)
    if found:
        yield "\nFor an answer in words, set ANTHROPIC_API_KEY or choose another backend.\n"


def _relevant(prompt: Prompt) -> list[_Subject]:
    """The best subjects, each with its main passage and the details that match; then how the two modules relate."""
    passages = prompt.passages
    ranked = TextIndex([(passage.title, passage.text) for passage in passages]).rank(prompt.question)
    subjects: dict[tuple[str, str], _Subject] = {}
    for position, _score in ranked:
        passage = passages[position]
        key = _key(passage)
        if key not in subjects and len(subjects) < _SUBJECTS:
            main = [other for other in passages if _key(other) == key and other.kind not in _DETAILS]
            subjects[key] = _Subject(key[1], key[0], main)
        if key in subjects and passage not in subjects[key].passages:
            subjects[key].passages.append(passage)
    if subjects:
        for passage in passages:
            if passage.kind == "relationship" and passage.title == prompt.pair.source:
                subjects.setdefault(_key(passage), _Subject(passage.title, "relationship", [passage]))
    return list(subjects.values())


def _key(passage: Passage) -> tuple[str, str]:
    """What a passage is about: schemas and examples, titled ``capability: detail``, are about their capability."""
    if passage.kind in _DETAILS:
        return "capability", passage.title.partition(":")[0]
    return passage.kind, passage.title


def _section(subject: _Subject) -> Iterator[str]:
    for number, passage in enumerate(subject.passages):
        title, kind = one_line(passage.title), _KINDS.get(passage.kind, one_line(passage.kind))
        if passage.kind in _DETAILS:
            title = title.partition(":")[2].strip() or kind
            heading = title if kind in title else f"{title} {kind}"
            yield f"{heading}:"
        elif number == 0:
            yield f"{title} ({kind})"
        yield from _quoted(passage.text)
    yield ""


def _quoted(text: str) -> Iterator[str]:
    """The text as a Markdown quotation, cut at the end of a line or word when it is very long."""
    safe = printable(text).strip()
    shown = safe
    if len(safe) > _QUOTE_CHARACTERS:
        shown = safe[:_QUOTE_CHARACTERS].rsplit(None, 1)[0].rstrip() + " …"
    for line in shown.splitlines() or [""]:
        yield f"> {line}".rstrip()
    if shown is not safe:
        yield f"({len(safe) - _QUOTE_CHARACTERS} more characters)"


def _other_capabilities(passages: Sequence[Passage], found: Sequence[_Subject], target: str) -> Iterator[str]:
    shown = {subject.name for subject in found if subject.kind == "capability"}
    names = [one_line(passage.title) for passage in passages if passage.kind == "capability"]
    others = [name for name in dict.fromkeys(names) if name not in shown]
    if others:
        more = f", and {len(others) - _NAMES} more" if len(others) > _NAMES else ""
        word = "Other capabilities" if shown else "Capabilities"
        yield f"\n{word} of {target}: {', '.join(others[:_NAMES])}{more}.\n"
    elif not names:
        yield f"\nThe descriptor of {target} lists no capabilities.\n"

"""Text that a model or a module wrote, made harmless for the screen: no escapes, no markup, no links that act."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, Any, ClassVar

from markdown_it import MarkdownIt
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.errors import ConsoleError
from rich.markdown import Markdown, MarkdownElement, TextElement
from rich.segment import Segment
from rich.text import Text
from rich.theme import Theme

from claude_comms.text import visible

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType, RenderResult

__all__ = ["fitted", "markdown_lines", "plain_lines"]

_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable("image")
_ONE_LINE = str.maketrans("\r\n\t\u2028\u2029", "     ")
_LONGEST_MARKDOWN = 100_000
_THEME = Theme(
    {
        "markdown.paragraph": "none",
        "markdown.text": "none",
        "markdown.emph": "italic",
        "markdown.em": "italic",
        "markdown.strong": "bold",
        "markdown.code": "bold",
        "markdown.code_block": "none",
        "markdown.block_quote": "italic",
        "markdown.list": "none",
        "markdown.item": "none",
        "markdown.item.bullet": "bold",
        "markdown.item.number": "bold",
        "markdown.hr": "dim",
        "markdown.h1.border": "none",
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.h4": "bold italic",
        "markdown.h5": "italic",
        "markdown.h6": "italic",
        "markdown.link": "underline",
        "markdown.link_url": "underline",
        "markdown.s": "strike",
        "markdown.table.border": "dim",
        "markdown.table.header": "bold",
    }
)
"""Without colours: it has to be read on light, on dark and without any."""


class _Code(TextElement):
    """A block of code, as it is, behind a bar."""

    @classmethod
    def create(cls, markdown: Markdown, token: Any) -> _Code:
        return cls()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = Text(self.text.plain.rstrip("\n").expandtabs(4))
        for line in code.wrap(console, max(1, options.max_width - 2), no_wrap=False):
            yield Text("│ ", style="dim") + line


class _Heading(TextElement):
    """A heading at the left, in bold."""

    @classmethod
    def create(cls, markdown: Markdown, token: Any) -> _Heading:
        return cls(token.tag)

    def __init__(self, tag: str) -> None:
        self.style_name = f"markdown.{tag}"
        super().__init__()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.text


class _Harmless(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {
        **Markdown.elements,
        "fence": _Code,
        "code_block": _Code,
        "heading_open": _Heading,
    }

    def __init__(self, text: str) -> None:
        super().__init__("", hyperlinks=False)
        self.markup = text
        self.parsed = _PARSER.parse(text)


def markdown_lines(text: str, width: int) -> list[list[Segment]]:
    """`text` as Markdown in lines of `width` columns, with bold, italics and underlines but no colours.

    Where it is too long for that, or nothing that the renderer can take, it comes as it is.
    """
    safe = visible(text)
    if len(safe) > _LONGEST_MARKDOWN:
        return plain_lines(safe, width)
    try:
        return _rendered(_Harmless(safe), width)
    except (ConsoleError, ValueError, LookupError, AssertionError, RecursionError, AttributeError):
        return plain_lines(safe, width)


def plain_lines(text: str, width: int) -> list[list[Segment]]:
    """`text` as it is, wrapped to `width` columns."""
    return _rendered(Text(visible(text).expandtabs(4)), width)


def _rendered(what: RenderableType, width: int) -> list[list[Segment]]:
    console = Console(
        file=StringIO(), width=max(1, width), theme=_THEME, color_system=None, legacy_windows=False, markup=False
    )
    lines = console.render_lines(what, console.options, pad=False)
    return [[Segment(part.text, part.style) for part in line if not part.control] for line in lines]


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """`text` on one line of exactly `width` columns, ending in an ellipsis where something was cut."""
    line = text if text.isascii() and text.isprintable() else visible(text.translate(_ONE_LINE))
    taken = cell_len(line)
    if taken > width:
        return set_cell_size(line, width - 1) + "…" if width > 0 else ""
    return " " * (width - taken) + line if right else line + " " * (width - taken)

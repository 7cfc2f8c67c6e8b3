"""Links between the documents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.docs.conftest import Document

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def test_relative_links_lead_somewhere(document: Document) -> None:
    for link in _LINK.findall(document.text):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (document.path.parent / place) if place else document.path
        assert target.exists(), link
        if anchor:
            assert anchor in map(_anchor, _HEADING.findall(target.read_text(encoding="utf-8"))), link


def _anchor(heading: str) -> str:
    """As the places that show Markdown make anchors of headings."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")

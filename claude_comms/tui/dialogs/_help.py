"""All keys on one page."""

from __future__ import annotations

from claude_comms.tui.dialogs._reading import ReadingScreen

__all__ = ["KEYS", "HelpScreen"]

KEYS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Everywhere",
        (
            ("1 2 3 4 5", "Instances, Conversations, Events, Jobs, Usage"),
            ("Tab", "to the next part of the screen"),
            ("↑ ↓ j k, PgUp PgDn, Home End", "move; Enter opens"),
            ("/", "filter as you type; Enter to the list, Escape shows all"),
            ("f", "focus: everything, attention, critical"),
            ("g", "digest of what the focus held back"),
            ("Ctrl+T", "light or dark"),
            ("Ctrl+P", "all commands, to be searched"),
            ("? F1", "these keys; F1 while something is typed"),
            ("q, Ctrl+C", "leave; the daemon and its work go on"),
        ),
    ),
    (
        "Instances",
        (
            ("a n", "ask it, in the conversation it holds; ask somebody anew"),
            ("p r", "pause once it has answered; resume"),
            ("i", "interrupt its answer"),
            ("X", "stop it for good (asks first)"),
            ("t", "attach: take it over in this terminal"),
            ("s S", "sort by the next column; the other way round"),
            ("z, Enter", "its output on the whole screen, and back"),
            ("o", "its conversation"),
            ("x y", "export its conversation; copy its last answer"),
        ),
    ),
    (
        "Conversations",
        (
            ("/", "search in all messages"),
            ("a n", "go on with it; begin a new one"),
            ("z, Enter", "the thread on the whole screen, and back"),
            ("x y", "export; copy the last answer"),
        ),
    ),
    (
        "Events",
        (
            ("/", "turn.*  marker/*  @module  !high  i_01…  words"),
            ("Enter", "the event in full"),
            ("End", "follow what comes"),
            ("y", "copy the event"),
        ),
    ),
    (
        "Jobs",
        (
            ("n", "a new question"),
            ("c", "cancel it (asks first)"),
            ("z, Enter", "question and answer on the whole screen, and back"),
            ("o x y", "its conversation; export; copy its answer"),
        ),
    ),
    (
        "Usage",
        (("b", "by pair, module asked, module asking, day, backend, model"), ("w", "all time, 7 days, 24 hours")),
    ),
)


class HelpScreen(ReadingScreen):
    """The keys, and what they do."""

    def __init__(self) -> None:
        lines: list[str] = []
        for title, keys in KEYS:
            lines += ([""] if lines else []) + [title]
            lines += [f"  {key:<12}  {does}" if len(key) <= 12 else f"  {key}\n{'':<16}{does}" for key, does in keys]
        super().__init__("Keys", "\n".join(lines))

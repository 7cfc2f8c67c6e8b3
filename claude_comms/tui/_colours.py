"""The colours of what is read: with a contrast of at least 4.5 on every background that the monitor has."""

from __future__ import annotations

__all__ = ["COLOURS"]

COLOURS: dict[bool, dict[str, str]] = {
    True: {
        "good": "#7fd49a",
        "warn": "#ffc473",
        "bad": "#ff8fa0",
        "quiet": "#a4a4a4",
        "key": "#ffc473",
        "chosen": "#0a5596",
        "on-chosen": "#ffffff",
        "was-chosen": "#303b45",
        "alert": "#ffc473",
        "on-alert": "#121212",
        "final": "#a0183a",
        "on-final": "#ffffff",
    },
    False: {
        "good": "#1b5e30",
        "warn": "#6b4000",
        "bad": "#930f2e",
        "quiet": "#505050",
        "key": "#004578",
        "chosen": "#004578",
        "on-chosen": "#ffffff",
        "was-chosen": "#b9c6d0",
        "alert": "#6b4000",
        "on-alert": "#ffffff",
        "final": "#930f2e",
        "on-final": "#ffffff",
    },
}
"""Variables of the style sheet by whether the theme is a dark one.

The theme's own `$success` or `$error` can be seen, but as text on its backgrounds they have a contrast of 1.2 to 3, and
its `$text-muted` depends on a background that a component of a widget does not know.
"""

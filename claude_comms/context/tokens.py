"""How many tokens a text has, estimated without a tokenizer."""

from __future__ import annotations

from claude_comms.types import TokenCount

__all__ = ["estimate_tokens"]

_CHARS_PER_TOKEN = 3.5
_TOKENS_PER_EXTRA_BYTE = 0.5


def estimate_tokens(text: str) -> TokenCount:
    """About how many tokens `text` has; errs towards more.

    A rule of thumb, not a measurement: a token for each 3.5 characters, and half a token more for each UTF-8 byte
    beyond one a character, because text outside ASCII falls into more tokens (a CJK character comes to 1.3).
    """
    estimate = len(text) / _CHARS_PER_TOKEN
    if not text.isascii():
        estimate += (len(text.encode("utf-8", "surrogatepass")) - len(text)) * _TOKENS_PER_EXTRA_BYTE
    return TokenCount(int(estimate) + 1 if text else 0)

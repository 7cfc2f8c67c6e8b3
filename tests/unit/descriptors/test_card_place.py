"""Which redirects are followed when a card is fetched."""

from __future__ import annotations

import httpx
import pytest

from claude_comms.descriptors._card_place import _is_same_host


@pytest.mark.parametrize(
    ("url", "other", "same"),
    [
        ("http://a.example/x", "http://a.example/y", True),
        ("http://a.example/x", "https://a.example/x", True),
        ("https://a.example/x", "http://a.example/x", False),
        ("http://a.example/x", "https://a.example:8443/x", False),
        ("http://a.example:81/x", "https://a.example/x", False),
        ("http://a.example/x", "http://a.example:81/x", False),
        ("http://a.example/x", "http://b.a.example/x", False),
        ("http://a.example/x", "http://u:p@a.example/x", False),
        ("http://a.example/x", "file://a.example/x", False),
    ],
)
def test_a_redirect_stays_on_its_host_or_goes_to_its_https(url: str, other: str, same: bool) -> None:
    assert _is_same_host(httpx.URL(url), httpx.URL(other)) is same

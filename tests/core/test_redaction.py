"""Secrets stay out of what is shown and written."""

from __future__ import annotations

import pytest

from feedhandler._core.redaction import redact_headers, redact_text, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://host/path", "wss://host/path"),
        ("wss://user:pw@host:1/path?token=abc&x=1#f", "wss://***@host:1/path?token=***&x=***"),
        ("wss://host/?abc", "wss://host/?***"),
    ],
)
def test_a_urls_user_and_query_are_hidden(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_secret_headers_are_hidden() -> None:
    headers = [("Authorization", "Bearer x"), ("X-API-Key", "x"), ("Accept", "y")]
    assert redact_headers(headers) == [
        ("Authorization", "***"),
        ("X-API-Key", "***"),
        ("Accept", "y"),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"jwt":"a.b.c","channel":"x"}', '{"jwt":"***","channel":"x"}'),
        ('{"api_key" : "k\\"x", "n": 1}', '{"api_key" : "***", "n": 1}'),
        ('{"auth":{"apiKey":123,"sign":"s"}}', '{"auth":{"apiKey":"***","sign":"***"}}'),
        ('{"args":["Bearer abc.def"]}', '{"args":["Bearer ***"]}'),
        ('{"type":"subscribe","product_ids":["A"]}', '{"type":"subscribe","product_ids":["A"]}'),
    ],
)
def test_secret_members_are_hidden(text: str, shown: str) -> None:
    assert redact_text(text) == shown

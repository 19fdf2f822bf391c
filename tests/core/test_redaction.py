"""Secrets stay out of what is shown and written."""

from __future__ import annotations

import pytest

from feedhandler._core.redaction import redact_payload, redact_text, redact_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wss://host/path", "wss://host/path"),
        ("wss://user:pw@host:1/path?token=abc&x=1#f", "wss://***@host:1/path?token=***&x=***"),
        ("wss://host/?abc", "wss://host/?***"),
        ("wss://host/ws/pqia91ma19a5s61cv6a81va65sdf19v8", "wss://host/ws/***"),
        ("wss://host/ws/" + "k" * 64 + "@depth", "wss://host/ws/***@depth"),
        ("wss://host/a;jsessionid=S/b", "wss://host/a;***/b"),
        ("wss://host/ws/btcusdt@trade/x", "wss://host/ws/btcusdt@trade/x"),
    ],
)
def test_a_urls_user_and_query_are_hidden(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (
            "https://host/depth?symbol=BTCUSD&limit=1000",
            "https://host/depth?symbol=BTCUSD&limit=1000",
        ),
        ("https://u:pw@host/x?symbol=A&apikey=k", "https://***@host/x?symbol=A&apikey=***"),
        (
            "https://host/?api%5Fkey=k&API_KEY=k&sig=k",
            "https://host/?api%5Fkey=***&API_KEY=***&sig=***",
        ),
        ("https://host/?abc&x=", "https://host/?***&x=***"),
        ("https://host/?s=pqia91ma19a5s61cv6a81va65sdf19v8", "https://host/?s=***"),
        ("https://host/a;jsessionid=S/b?x=1#f", "https://host/a;***/b?x=1"),
    ],
)
def test_of_a_rest_url_what_is_no_secret_is_shown(url: str, shown: str) -> None:
    assert redact_url(url, only_secrets=True) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"jwt":"a.b.c","channel":"x"}', '{"jwt":"***","channel":"x"}'),
        ('{"api_key" : "k\\"x", "n": 1}', '{"api_key":"***","n":1}'),
        ('{"auth":{"apiKey":123,"sign":"s"}}', '{"auth":"***"}'),
        ('{"a":{"token":["s1",{"b":"s2"}]}}', '{"a":{"token":"***"}}'),
        ('{"op":"auth","args":["KEY",17,"SIG"]}', '{"op":"auth","args":"***"}'),
        (
            '{"method":"login","params":{"x":"s"},"id":1}',
            '{"method":"login","params":"***","id":"***"}',
        ),
        (
            '{"client_secret":"s","refreshToken":"s","authSig":"s"}',
            '{"client_secret":"***","refreshToken":"***","authSig":"***"}',
        ),
        (
            'not JSON, "secretKey": "s", {"sign": 5}',
            'not JSON, "secretKey": "***", {"sign": "***"}',
        ),
        ('{"price": 1.50,  "size":2}', '{"price": 1.50,  "size":2}'),
        ('{"op":"authKeyExpires","args":["K",1,"S"]}', '{"op":"authKeyExpires","args":"***"}'),
        ('{"method":"user.auth","params":["A"]}', '{"method":"user.auth","params":"***"}'),
        ('{"method":"server.sign","params":["A"]}', '{"method":"server.sign","params":"***"}'),
        ('{"event":"#login","data":"S"}', '{"event":"#login","data":"***"}'),
        ('["auth","KEY","SIG"]', '["auth","***","***"]'),
        ('{"a":"{\\"apiKey\\":\\"S\\"}"}', '{"a":"{\\"apiKey\\":\\"***\\"}"}'),
        ('{"args":["Bearer abc.def"]}', '{"args":["Bearer ***"]}'),
        ('{"type":"subscribe","product_ids":["A"]}', '{"type":"subscribe","product_ids":["A"]}'),
    ],
)
def test_secret_members_are_hidden(text: str, shown: str) -> None:
    assert redact_text(text) == shown
    assert redact_payload(text) == shown
    assert redact_payload(text.encode()) == shown.encode()


def test_binary_messages_that_are_no_text_stay_as_they_are() -> None:
    assert redact_payload(b"\xff\x00secret") == b"\xff\x00secret"

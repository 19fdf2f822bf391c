"""Keeping secrets out of logs, reprs, errors and recordings."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote_plus, urlsplit, urlunsplit

__all__ = ["REDACTED", "redact_payload", "redact_text", "redact_url"]

REDACTED = "***"

# Parts of the names under which venues and proxies carry credentials, and whole names; both are
# compared without case, '-' and '_'.
_SECRET_PARTS = (
    "accesskey", "accesssign", "apikey", "authorization", "authsig", "bearer", "cookie",
    "credential", "jwt", "listenkey", "passphrase", "passwd", "password", "privatekey", "secret",
    "signature", "token",
)  # fmt: skip
_SECRET_NAMES = frozenset({"auth", "key", "pass", "sig", "sign"})
# A request of this kind carries credentials in its other members, whatever their names are.
_KINDS = ("op", "method", "type", "event", "action", "request", "channel")
_LOGINS = frozenset({"auth", "authenticate", "authorize", "login", "logon", "sign", "signin"})
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w\-.~+/]+=*")
_JSON_MEMBER = re.compile(r'("((?:[^"\\]|\\.)*)"\s*:\s*)("(?:[^"\\]|\\.)*"|[^\s,{}\[\]"]+)')
# A listen key in a path: long, with a digit or longer still; and matrix parameters.
_PATH_KEY = re.compile(r"(?<=/)(?:(?=[\w\-]*[0-9])[\w\-]{24,}|[\w\-]{32,})(?=[/@;]|$)")
_PATH_PARAMETERS = re.compile(r";[^/]*")


def _is_secret(name: str) -> bool:
    plain = name.lower().replace("-", "").replace("_", "")
    return plain in _SECRET_NAMES or any(part in plain for part in _SECRET_PARTS)


def redact_url(url: str, *, only_secrets: bool = False) -> str:
    """Return `url` with its user part, its query's values and keys in its path as ``***``.

    With `only_secrets`, the values of the query stay that are no secrets by their names or looks.
    """
    parts = urlsplit(url)
    netloc = parts.netloc
    if "@" in netloc:
        netloc = f"{REDACTED}@{netloc.rpartition('@')[2]}"
    query = "&".join(
        pair if only_secrets and _is_harmless(pair) else _redacted_pair(pair)
        for pair in parts.query.split("&")
        if pair
    )
    path = _PATH_PARAMETERS.sub(f";{REDACTED}", _PATH_KEY.sub(REDACTED, parts.path))
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def _is_harmless(pair: str) -> bool:
    name, _, value = pair.partition("=")
    return bool(value) and not _is_secret(unquote_plus(name)) and not _PATH_KEY.search(f"/{value}")


def _redacted_pair(pair: str) -> str:
    return f"{pair.partition('=')[0]}={REDACTED}" if "=" in pair else REDACTED


def redact_text(text: str) -> str:
    """Return `text` with the values of secret JSON members and bearer tokens replaced.

    The text is left as it is, byte for byte, where there is nothing to replace.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        text = _JSON_MEMBER.sub(lambda m: f'{m[1]}"{REDACTED}"' if _is_secret(m[2]) else m[0], text)
    else:
        redacted = _redacted(document)
        if redacted != document:
            text = json.dumps(redacted, separators=(",", ":"))
    return _BEARER.sub(lambda m: f"{m[1]} {REDACTED}", text)


def redact_payload(payload: str | bytes) -> str | bytes:
    """`redact_text` for a message; a binary one is redacted where it is text inside."""
    if isinstance(payload, str):
        return redact_text(payload)
    try:
        return redact_text(payload.decode()).encode()
    except UnicodeDecodeError:
        return payload


def _redacted(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("{", "["):
        return redact_text(value)  # JSON inside of JSON
    if isinstance(value, list):
        if value and _is_login(value[0]):
            return [value[0], *(REDACTED for _ in value[1:])]
        return [_redacted(item) for item in value]
    if not isinstance(value, dict):
        return value
    is_login = any(_is_login(value.get(kind)) for kind in _KINDS)
    return {
        name: REDACTED if _is_secret(name) or (is_login and name not in _KINDS) else _redacted(item)
        for name, item in value.items()
    }


def _is_login(kind: object) -> bool:
    """Whether a request of this kind logs in: ``auth``, ``user.login``, ``authKeyExpires``."""
    return isinstance(kind, str) and any(w.lower() in _LOGINS for w in _WORD.findall(kind))

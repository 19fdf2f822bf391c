"""Keeping secrets out of logs, reprs, errors and recordings."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

__all__ = ["REDACTED", "SECRET_NAMES", "redact_headers", "redact_text", "redact_url"]

REDACTED = "***"

# Names under which venues and proxies carry credentials, compared without case, '-' and '_'.
SECRET_NAMES = frozenset(
    {
        "accesskey", "accesstoken", "apikey", "apisecret", "auth", "authorization", "bearer",
        "cbaccesskey", "cbaccesspassphrase", "cbaccesssign", "cookie", "jwt", "key", "listenkey",
        "passphrase", "password", "privatekey", "proxyauthorization", "secret", "setcookie",
        "sign", "signature", "token", "xapikey", "xauthtoken", "xmbxapikey",
    }
)  # fmt: skip

_JSON_MEMBER = re.compile(r'("((?:[^"\\]|\\.)*)"\s*:\s*)("(?:[^"\\]|\\.)*"|[^\s,{}\[\]"]+)')
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w\-.~+/]+=*")


def _is_secret(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "") in SECRET_NAMES


def redact_url(url: str) -> str:
    """Return `url` with its user part and the values of its query replaced by ``***``."""
    parts = urlsplit(url)
    netloc = parts.netloc
    if "@" in netloc:
        netloc = f"{REDACTED}@{netloc.rpartition('@')[2]}"
    query = "&".join(
        f"{pair.partition('=')[0]}={REDACTED}" if "=" in pair else REDACTED
        for pair in parts.query.split("&")
        if pair
    )
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def redact_headers(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `headers` with the values of those that carry credentials replaced."""
    return [(name, REDACTED if _is_secret(name) else value) for name, value in headers]


def redact_text(text: str) -> str:
    """Return `text` with the values of secret JSON members and bearer tokens replaced."""

    def member(match: re.Match[str]) -> str:
        if not _is_secret(match[2]):
            return match[0]
        return f'{match[1]}"{REDACTED}"'

    return _BEARER.sub(lambda m: f"{m[1]} {REDACTED}", _JSON_MEMBER.sub(member, text))

"""Certificates for a server of its own: a good one, and wrong ones. Made by trustme."""

from __future__ import annotations

import datetime
import ssl

__all__ = ["Certificates"]

_HOST = "127.0.0.1"


class Certificates:
    """An authority, made when it is needed, and what it issues. Needs trustme."""

    def __init__(self) -> None:
        import trustme

        self._authority = trustme.CA()

    def client_context(self) -> ssl.SSLContext:
        """A client's context that trusts this authority alone."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    def server_context(self, how: str = "good") -> ssl.SSLContext:
        """A server's context; its certificate is ``good``, ``untrusted`` (of another authority),
        ``expired``, or for the ``wrong_host``."""
        import trustme

        authority = trustme.CA() if how == "untrusted" else self._authority
        name = "elsewhere.invalid" if how == "wrong_host" else _HOST
        past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
        certificate = authority.issue_cert(name, not_after=past if how == "expired" else None)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

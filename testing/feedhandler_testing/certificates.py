"""Certificates of the wrong kinds, made by trustme when they are needed."""

from __future__ import annotations

import datetime
import ssl

__all__ = ["server_context"]


def server_context(how: str) -> ssl.SSLContext:
    """A server's context whose certificate is ``untrusted``, ``expired`` or for the ``wrong_host``.

    Needs trustme. The issuer is a new one each time, which no client trusts, so that a client
    refuses it whatever else is wrong.
    """
    import trustme

    authority = trustme.CA()
    name = "elsewhere.invalid" if how == "wrong_host" else "127.0.0.1"
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    certificate = authority.issue_cert(name, not_after=past if how == "expired" else None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context

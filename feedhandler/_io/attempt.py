"""One attempt to connect: leave for it, the headers that it needs, and what its end says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from feedhandler._core.breaker import CircuitBreaker, CircuitState, Permit
from feedhandler._io.connection import Connection
from feedhandler.abc import TokenProvider
from feedhandler.config import check_headers, check_token
from feedhandler.errors import (
    ConfigError,
    ConnectionFailed,
    DialError,
    FailureKind,
    ForcedDisconnect,
    InvalidToken,
)

__all__ = ["Attempt", "Credentials"]

Headers = list[tuple[str, str]]


class Attempt:
    """A connection from the breaker's permit to its end; `over` is set when nothing of it is left.

    The permit is the attempt's until a success or a failure was told to the breaker. `admit` waits
    until the venue's pace allows one more; that is before anything else, and can't fail.
    """

    def __init__(
        self,
        make: Callable[[], Connection],
        *,
        breaker: CircuitBreaker | None,
        headers: Callable[[], Awaitable[Headers]],
        admit: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._make = make
        self._admit = admit
        self._breaker = breaker
        self._headers = headers
        self.connection: Connection | None = None
        self.permit: Permit | None = None
        self.over = trio.Event()

    async def run(self, opened: Callable[[], None]) -> None:
        """Connect, call `opened`, and live until the end.

        Returns after a polite close. Raises `CircuitOpenError`, or the `ConnectionFailed` that
        ended it. Cancel-safe: the permit is given back, and nothing is left open.
        """
        breaker = self._breaker
        try:
            if self._admit is not None:
                await self._admit()
            if breaker is not None:
                self.permit = breaker.acquire(now=trio.current_time())
            headers = await self._headers()
            self.connection = self._make()
            await self.connection.run(opened, headers=headers)
        except ForcedDisconnect:
            raise  # our own doing says nothing about the venue
        except ConnectionFailed as error:
            if breaker is not None and error.kind is not FailureKind.MALFORMED_DATA:
                breaker.record_failure(self.permit, now=trio.current_time())
                self.permit = None
            raise
        finally:
            self.connection = None
            if breaker is not None and self.permit is not None:
                breaker.release(self.permit, now=trio.current_time())
                self.permit = None
            self.over.set()

    def data_is_valid(self, *, count: int, judged: bool, user_judges: bool) -> None:
        """Tell the breaker of valid data; see `Supervisor.data_is_valid`."""
        breaker = self._breaker
        if breaker is None:
            return
        now = trio.current_time()
        until = breaker.open_until
        if until is not None and now >= until:
            # The circuit was opened by hand while the connection lives: it is the probe itself.
            self.permit = breaker.acquire(now=now)
        probing = self.permit is not None or breaker.state is CircuitState.HALF_OPEN
        if judged or (probing and not user_judges):
            breaker.record_success(self.permit, now=now, weight=count)
            self.permit = None

    def data_is_malformed(self) -> bool:
        """Tell the breaker of a message that could not be decoded; true if that opens it."""
        breaker = self._breaker
        if breaker is None or breaker.state is CircuitState.OPEN:
            return False
        breaker.record_failure(self.permit, now=trio.current_time())
        self.permit = None
        return breaker.open_until is not None

    def drop(self) -> None:
        """End the connection at once, without a closing handshake, if there still is one."""
        if self.connection is not None:
            self.connection.force(ForcedDisconnect("another connection has taken its place"))


class Credentials:
    """The headers of an opening handshake, with a token that may be asked for anew each time."""

    def __init__(
        self,
        token: str | TokenProvider | None,
        headers: Sequence[tuple[str, str]],
        *,
        of_url: Sequence[tuple[str, str]],
        timeout_s: float,
    ) -> None:
        self._token = check_token(token) if isinstance(token, str) else token
        self._headers = check_headers(headers)
        if not any(name.lower() == "authorization" for name, _ in headers):
            self._headers += tuple(of_url)
        self._timeout_s = timeout_s

    async def headers(self) -> Headers:
        """Raises `DialError` where the provider failed, and `InvalidToken`."""
        token = self._token
        if token is None:
            return list(self._headers)
        if not isinstance(token, str):
            try:
                with trio.fail_after(self._timeout_s):
                    token = await token()
            except ConnectionFailed:
                raise
            except Exception as error:  # whatever the library behind it raises
                raise DialError(f"the token provider failed: {type(error).__name__}") from error
            try:
                check_token(token)
            except ConfigError as error:
                raise InvalidToken(f"the token provider gave what is no token: {error}") from error
        others = [(n, v) for n, v in self._headers if n.lower() != "authorization"]
        return [*others, ("Authorization", f"Bearer {token}")]

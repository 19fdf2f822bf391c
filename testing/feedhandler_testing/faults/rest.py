"""Faults of the venue's REST interface, from which the snapshots of some venues' books come."""

from __future__ import annotations

from typing import ClassVar

import trio
from attrs import evolve, field, frozen

from feedhandler.abc import HttpResponse
from feedhandler_testing.checks import at_least, http_status, positive
from feedhandler_testing.faults.base import Act, Fault, Layer, RestCall

__all__ = [
    "RestError",
    "RestLate",
    "RestLimited",
    "RestOtherSymbol",
    "RestReset",
    "RestStale",
    "RestTooLarge",
]

_REST = frozenset({"rest"})


@frozen
class RestError(Fault):
    """A web page that tells of an error comes in the place of an answer (or with status 200)."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    status: int = field(default=502, validator=http_status)

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        page = f"<html><body><h1>{self.status}</h1>Something went wrong</body></html>"
        return HttpResponse(self.status, (("Content-Type", "text/html"),), page.encode())


@frozen
class RestLimited(Fault):
    """Too much was fetched (429): come back in `retry_after_s`."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    retry_after_s: int = field(default=2, validator=at_least(0))
    status: int = field(default=429, validator=http_status)

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        headers = (("Retry-After", str(self.retry_after_s)), ("Content-Type", "application/json"))
        return HttpResponse(self.status, headers, b'{"code":-1003,"msg":"Too many requests."}')


@frozen
class RestTooLarge(Fault):
    """An answer is right, and `size` bytes longer than it need be."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    size: int = field(default=64 << 20, validator=at_least(1))

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        return evolve(answer, body=answer.body + b" " * self.size)


@frozen
class RestLate(Fault):
    """An answer comes `delay_s` late, and is as old by then."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    delay_s: float = field(default=30.0, validator=positive)

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        await trio.sleep(self.delay_s)
        return answer


@frozen
class RestOtherSymbol(Fault):
    """The answer is that of another symbol; of none, where the venue has only one."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        asked = call.request.get("symbol")
        others = [symbol for symbol in call.symbols if symbol != asked]
        return call.answer(symbol=act.rng.choice(others) if others else "")


@frozen
class RestStale(Fault):
    """A snapshot is as the book was `by` messages ago: too old for what has come since."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    by: int = field(default=8, validator=at_least(1))

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        return call.answer(ago=self.by)


@frozen
class RestReset(Fault):
    """The connection is reset before there is an answer."""

    layer: ClassVar[Layer] = Layer.REST
    needs: ClassVar[frozenset[str]] = _REST

    async def rest(self, act: Act, call: RestCall, answer: HttpResponse) -> HttpResponse | None:
        raise trio.BrokenResourceError

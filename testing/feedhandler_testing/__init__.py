"""Fault injection for market-data feeds on trio: a mock exchange, and what it can do wrong.

(PYTEST_DONT_REWRITE: there are no test's asserts here.)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from feedhandler_testing.clock import VirtualClock
    from feedhandler_testing.connection import MockWebSocketConnection
    from feedhandler_testing.failure import (
        BadHandshake,
        Disconnect,
        Failure,
        FailureMode,
        MalformedData,
        Refusal,
        Rejection,
        Timeout,
    )
    from feedhandler_testing.feed_trace import FeedTrace
    from feedhandler_testing.leaks import no_leaks
    from feedhandler_testing.prices import price_message
    from feedhandler_testing.server import MockWebSocketServer
    from feedhandler_testing.streams import MemoryStream, memory_network
else:
    # pytest imports this package wherever the wheel is installed, in order to find the plugin. So
    # that this costs nothing there, a name's module is imported when the name is first asked for.
    _HOMES = {
        "BadHandshake": "failure",
        "Disconnect": "failure",
        "Failure": "failure",
        "FailureMode": "failure",
        "FeedTrace": "feed_trace",
        "MalformedData": "failure",
        "MemoryStream": "streams",
        "MockWebSocketConnection": "connection",
        "MockWebSocketServer": "server",
        "Refusal": "failure",
        "Rejection": "failure",
        "Timeout": "failure",
        "VirtualClock": "clock",
        "memory_network": "streams",
        "no_leaks": "leaks",
        "price_message": "prices",
    }

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "BadHandshake",
    "Disconnect",
    "Failure",
    "FailureMode",
    "FeedTrace",
    "MalformedData",
    "MemoryStream",
    "MockWebSocketConnection",
    "MockWebSocketServer",
    "Refusal",
    "Rejection",
    "Timeout",
    "VirtualClock",
    "memory_network",
    "no_leaks",
    "price_message",
]

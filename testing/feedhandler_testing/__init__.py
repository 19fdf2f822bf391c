"""Fault injection for market-data feeds on trio: a mock exchange, and what it can do wrong."""

from feedhandler_testing.books import MockBook
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
from feedhandler_testing.prices import price_message
from feedhandler_testing.server import MockWebSocketServer
from feedhandler_testing.streams import MemoryStream, memory_network

__all__ = [
    "BadHandshake",
    "Disconnect",
    "Failure",
    "FailureMode",
    "MalformedData",
    "MemoryStream",
    "MockBook",
    "MockWebSocketConnection",
    "MockWebSocketServer",
    "Refusal",
    "Rejection",
    "Timeout",
    "VirtualClock",
    "memory_network",
    "price_message",
]

"""The states of a connection, and all legal transitions as one table at the end of this file.

An event that a state does not list raises `IllegalTransition` and changes nothing.
"""

from __future__ import annotations

import enum
from types import MappingProxyType

from attrs import define, field, frozen

from feedhandler.errors import FailureKind, IllegalTransition

__all__ = ["TRANSITIONS", "ConnectionEvent", "ConnectionState", "StateMachine", "Transition"]


class ConnectionState(enum.Enum):
    """Where a connection is in its life; `CLOSED` is terminal."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSING = "closing"
    CLOSED = "closed"


class ConnectionEvent(enum.Enum):
    """What moves a connection from state to state."""

    CONNECT = "connect"  # somebody asks for a connection
    RECONNECT = "reconnect"  # somebody asks for a connection, with retries
    ESTABLISHED = "established"  # the opening handshake is done
    ROLLED_OVER = "rolled_over"  # a new connection has replaced the live one, without a break
    ROLLOVER_FAILED = "rollover_failed"  # no new connection; the live one goes on
    LOST = "lost"  # a live connection ended, and another attempt follows
    ATTEMPT_FAILED = "attempt_failed"  # an attempt failed, and another one follows
    GAVE_UP = "gave_up"  # a failure, and no attempt follows
    CLOSE = "close"  # somebody asks for the end
    CLOSED = "closed"  # the end: nothing is open any more


@frozen
class Transition:
    """One step of a connection's life.

    `at` is in seconds of the clock that drives the connection (trio's). `error` is the failure
    that caused the step, if one did; `attempt` counts failed attempts since the connection last
    proved itself; `next_attempt_at` is when the next one starts, if one will. `epoch` counts the
    connections that have delivered. `breaker_open` tells that the wait is the breaker's. `reason`
    says why a roll-over was planned; its `error`, if any, is how the old connection came to die
    before it was complete. Of a roll-over that failed, `attempt` counts the failures.
    """

    old: ConnectionState
    new: ConnectionState
    event: ConnectionEvent
    at: float
    epoch: int = 0
    error: Exception | None = field(default=None, eq=False)
    failure: FailureKind | None = None
    attempt: int = 0
    next_attempt_at: float | None = None
    breaker_open: bool = False
    reason: str | None = None


@define
class StateMachine:
    """The present state; `advance()` is the only way to change it."""

    state: ConnectionState = ConnectionState.DISCONNECTED

    def advance(self, event: ConnectionEvent) -> tuple[ConnectionState, ConnectionState]:
        """Apply `event` and return the old and the new state.

        Raises `IllegalTransition`, with the state unchanged, where the table has no such entry.
        """
        old = self.state
        try:
            new = TRANSITIONS[old, event]
        except KeyError:
            raise IllegalTransition(old, event) from None
        self.state = new
        return old, new

    def allows(self, event: ConnectionEvent) -> bool:
        return (self.state, event) in TRANSITIONS


_S = ConnectionState
_E = ConnectionEvent

TRANSITIONS = MappingProxyType(
    {
        (_S.DISCONNECTED, _E.CONNECT): _S.CONNECTING,
        (_S.DISCONNECTED, _E.RECONNECT): _S.RECONNECTING,
        (_S.DISCONNECTED, _E.CLOSE): _S.CLOSING,
        (_S.CONNECTING, _E.ESTABLISHED): _S.CONNECTED,
        (_S.CONNECTING, _E.ATTEMPT_FAILED): _S.RECONNECTING,
        (_S.CONNECTING, _E.GAVE_UP): _S.DISCONNECTED,
        (_S.CONNECTING, _E.CLOSE): _S.CLOSING,
        (_S.CONNECTED, _E.ROLLED_OVER): _S.CONNECTED,
        (_S.CONNECTED, _E.ROLLOVER_FAILED): _S.CONNECTED,
        (_S.CONNECTED, _E.LOST): _S.RECONNECTING,
        (_S.CONNECTED, _E.GAVE_UP): _S.DISCONNECTED,
        (_S.CONNECTED, _E.CLOSE): _S.CLOSING,
        (_S.RECONNECTING, _E.ESTABLISHED): _S.CONNECTED,
        (_S.RECONNECTING, _E.ATTEMPT_FAILED): _S.RECONNECTING,
        (_S.RECONNECTING, _E.GAVE_UP): _S.DISCONNECTED,
        (_S.RECONNECTING, _E.CLOSE): _S.CLOSING,
        (_S.CLOSING, _E.CLOSED): _S.CLOSED,
    }
)

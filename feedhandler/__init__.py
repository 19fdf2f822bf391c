"""A market-data feed handler for trio: exact events, honest about every loss.

Start with `open_feed()`; `FeedHandler` runs many feeds; `WebSocketClient` is the layer below,
for raw messages.

(PYTEST_DONT_REWRITE: there are no test's asserts here.)
"""

from feedhandler._core.backoff import ReconnectionState
from feedhandler._core.breaker import (
    BreakerSnapshot,
    CircuitBreaker,
    CircuitBreakerMetrics,
    CircuitState,
    CircuitTransition,
)
from feedhandler._core.failure import DEFAULT_POLICIES, FailurePolicy
from feedhandler._core.state import TRANSITIONS, ConnectionEvent, ConnectionState, Transition
from feedhandler._io.connection import Batch
from feedhandler._io.dial import dial_tcp
from feedhandler._io.fanout import Subscriber
from feedhandler._io.feed import Feed
from feedhandler._io.subscriptions import FeedSubscriptions
from feedhandler.circuit import CircuitBreakerClient
from feedhandler.client import WebSocketClient
from feedhandler.codec import PriceParser
from feedhandler.config import (
    BackoffConfig,
    BreakerConfig,
    ConnectionConfig,
    FeedConfig,
    OverflowPolicy,
    feed_config_from_mapping,
)
from feedhandler.errors import (
    AlreadyConnected,
    AuthenticationFailed,
    CircuitOpenError,
    ClientClosed,
    ConfigError,
    ConnectionFailed,
    ConnectionLost,
    ConnectionRefused,
    DecodeError,
    DialError,
    FailureKind,
    FeedError,
    FieldProblem,
    ForcedDisconnect,
    HandshakeError,
    HandshakeRejected,
    HandshakeTimeout,
    IllegalTransition,
    InvalidToken,
    MalformedBurst,
    MessageTooLarge,
    NameResolutionFailed,
    NotConnected,
    PeerClosed,
    PongTimeout,
    ProtocolViolation,
    RateLimited,
    RecordingError,
    RetriesExhausted,
    SendQueueFull,
    SlowConsumer,
    StaleConnection,
    SubscriptionRefused,
    TlsFailed,
    UsageError,
)
from feedhandler.handler import FeedHandler, open_feed
from feedhandler.model import (
    DataEvent,
    DecodeFailed,
    Event,
    FeedStateChanged,
    Gap,
    GapReason,
    PriceUpdate,
    Quote,
    Side,
    StatusEvent,
    SubscriptionFailed,
    Trade,
)
from feedhandler.observe import FeedStatistics, Histogram
from feedhandler.venues import venue_by_name
from feedhandler.venues.coinbase import Coinbase
from feedhandler.venues.price import PriceVenue

__all__ = [
    "DEFAULT_POLICIES",
    "TRANSITIONS",
    "AlreadyConnected",
    "AuthenticationFailed",
    "BackoffConfig",
    "Batch",
    "BreakerConfig",
    "BreakerSnapshot",
    "CircuitBreaker",
    "CircuitBreakerClient",
    "CircuitBreakerMetrics",
    "CircuitOpenError",
    "CircuitState",
    "CircuitTransition",
    "ClientClosed",
    "Coinbase",
    "ConfigError",
    "ConnectionConfig",
    "ConnectionEvent",
    "ConnectionFailed",
    "ConnectionLost",
    "ConnectionRefused",
    "ConnectionState",
    "DataEvent",
    "DecodeError",
    "DecodeFailed",
    "DialError",
    "Event",
    "FailureKind",
    "FailurePolicy",
    "Feed",
    "FeedConfig",
    "FeedError",
    "FeedHandler",
    "FeedStateChanged",
    "FeedStatistics",
    "FeedSubscriptions",
    "FieldProblem",
    "ForcedDisconnect",
    "Gap",
    "GapReason",
    "HandshakeError",
    "HandshakeRejected",
    "HandshakeTimeout",
    "Histogram",
    "IllegalTransition",
    "InvalidToken",
    "MalformedBurst",
    "MessageTooLarge",
    "NameResolutionFailed",
    "NotConnected",
    "OverflowPolicy",
    "PeerClosed",
    "PongTimeout",
    "PriceParser",
    "PriceUpdate",
    "PriceVenue",
    "ProtocolViolation",
    "Quote",
    "RateLimited",
    "ReconnectionState",
    "RecordingError",
    "RetriesExhausted",
    "SendQueueFull",
    "Side",
    "SlowConsumer",
    "StaleConnection",
    "StatusEvent",
    "Subscriber",
    "SubscriptionFailed",
    "SubscriptionRefused",
    "TlsFailed",
    "Trade",
    "Transition",
    "UsageError",
    "WebSocketClient",
    "dial_tcp",
    "feed_config_from_mapping",
    "open_feed",
    "venue_by_name",
]

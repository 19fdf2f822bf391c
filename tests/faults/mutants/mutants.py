"""Bugs to plant in the handler, one at a time: what the kit has to catch.

Each is what somebody could write, or forget, without noticing it. The text of a mutant must occur
exactly once in its file, or `run.py` stops: then the handler has changed, and the mutant with it.
"""

from __future__ import annotations

from attrs import frozen

__all__ = ["MUTANTS", "Mutant"]


@frozen
class Mutant:
    """A bug: in `file` (below feedhandler/), `old` becomes `new`. `cost` is what a user loses."""

    name: str
    cost: str
    file: str
    old: str
    new: str


_SUPERVISOR = "_io/supervisor.py"
_ATTEMPT = "_io/attempt.py"
_CONNECTION = "_io/connection.py"
_WIRE = "_io/wire.py"
_FEED = "_io/leg.py"
_FANOUT = "_io/fanout.py"
_FRAMES = "_core/frames.py"
_BREAKER = "_core/breaker.py"
_BACKOFF = "_core/backoff.py"
_LIVENESS = "_core/liveness.py"
_BOOK = "_core/subscriptions.py"
_OVERLAP = "_core/overlap.py"
_SEQUENCE = "_core/sequence.py"
_FAILURE = "_core/failure.py"
_PRICE = "venues/price.py"

MUTANTS = (
    # --- back-off and breaker ---
    Mutant(
        "backoff-not-reset",
        "after a day of good data, a blip is followed by half a minute of silence",
        _SUPERVISOR,
        "        if self.reconnection.attempt_count:\n            self.reconnection.proved()\n",
        "",
    ),
    Mutant(
        "backoff-reset-on-connect",
        "a venue that accepts and drops at once is hammered ten times a second",
        _SUPERVISOR,
        "    def _opened(self) -> None:\n"
        "        self.epoch += 1\n"
        "        self.reconnection.established(now=trio.current_time())\n",
        "    def _opened(self) -> None:\n"
        "        self.epoch += 1\n"
        "        self.reconnection.proved()\n",
    ),
    Mutant(
        "wait-skipped",
        "a venue in trouble is hammered without a pause",
        _SUPERVISOR,
        "        await trio.sleep_until(until)\n",
        "        await trio.lowlevel.checkpoint()\n",
    ),
    Mutant(
        "jitter-doubles",
        "waits are up to twice as long as configured",
        _BACKOFF,
        "delay = rng.uniform(0.0, delay)",
        "delay += rng.uniform(0.0, delay)",
    ),
    Mutant(
        "curve-one-ahead",
        "the first reconnect takes twice as long as it should",
        _BACKOFF,
        "exponent = self.attempt_count - 1",
        "exponent = self.attempt_count",
    ),
    Mutant(
        "retry-after-ignored",
        "a venue that asked for 7 s is asked again at once, and bans the address",
        "_core/upgrade.py",
        "retry_after_s=retry_after_s(headers, now_s=now_s)",
        "retry_after_s=None",
    ),
    Mutant(
        "minimum-ignored",
        "a rate limit without Retry-After is answered with the usual haste",
        _BACKOFF,
        "self.current_backoff = max(delay, verdict.minimum_s)",
        "self.current_backoff = delay",
    ),
    Mutant(
        "fatal-is-retried",
        "a wrong key is tried for ever, and the account is locked",
        _FAILURE,
        "FailureKind.AUTHENTICATION: FailurePolicy(retry=False)",
        "FailureKind.AUTHENTICATION: FailurePolicy()",
    ),
    Mutant(
        "fatal-one-late",
        "a policy violation is repeated once more than the venue forgives",
        _FAILURE,
        "0 < policy.fatal_after <= in_a_row",
        "0 < policy.fatal_after < in_a_row",
    ),
    Mutant(
        "permit-not-given-back",
        "after a probe that was cut short the circuit never lets anyone pass again",
        _ATTEMPT,
        "                breaker.release(self.permit, now=trio.current_time())\n",
        "",
    ),
    Mutant(
        "breaker-one-late",
        "the circuit opens a failure later than configured",
        _BREAKER,
        "metrics.consecutive_failures >= self.config.failure_threshold",
        "metrics.consecutive_failures > self.config.failure_threshold",
    ),
    Mutant(
        "breaker-without-cause",
        "two blips in a row, and the feed is silent for 10 s",
        _BREAKER,
        "metrics.consecutive_failures >= self.config.failure_threshold",
        "metrics.consecutive_failures >= self.config.failure_threshold - 3",
    ),
    Mutant(
        "breaker-counts-for-ever",
        "five blips in a month, each mended at once, open the circuit",
        _BREAKER,
        "        metrics.consecutive_failures = 0\n        self._remember(now, good=weight)\n",
        "        self._remember(now, good=weight)\n",
    ),
    Mutant(
        "breaker-never-doubles",
        "a venue that is down all night is probed every 10 s",
        _BREAKER,
        "doubled = self.config.open_s * 2.0 ** min(self._opened_in_a_row, 64)",
        "doubled = self.config.open_s",
    ),
    Mutant(
        "breaker-doubles-for-ever",
        "each outage is followed by a longer silence than the one before, days apart",
        _BREAKER,
        "            self._opened_in_a_row = 0\n            self._enter(\n",
        "            self._enter(\n",
    ),
    Mutant(
        "half-open-for-ever",
        "once it has been open, a single failure opens the circuit again",
        _BREAKER,
        "and metrics.consecutive_successes >= self.config.success_threshold",
        "and metrics.consecutive_successes > 1_000_000",
    ),
    Mutant(
        "token-asked-once",
        "after the token has expired no reconnect works",
        _ATTEMPT,
        "token = await token()",
        "token = self._token = await token()",
    ),
    # --- one connection ---
    Mutant(
        "old-connection-stays-open",
        "each reconnect leaves a socket behind, until the venue's limit is reached",
        _CONNECTION,
        "                with trio.CancelScope(shield=True):\n"
        "                    await trio.aclose_forcefully(stream)\n",
        "                pass\n",
    ),
    Mutant(
        "stale-deadline-ignored",
        "the feed is silent for ever, and says that it is connected",
        _LIVENESS,
        "(self._frame + limit, StaleConnection(",
        "(math.inf, StaleConnection(",
    ),
    Mutant(
        "pong-deadline-ignored",
        "a peer that is gone is noticed late, or never",
        _LIVENESS,
        "(self._pong + limit, PongTimeout(",
        "(math.inf, PongTimeout(",
    ),
    Mutant(
        "data-deadline-ignored",
        "data has stopped, pongs come, and nobody notices",
        _LIVENESS,
        "(self._data + limit, StaleConnection(",
        "(math.inf, StaleConnection(",
    ),
    Mutant(
        "pause-counts-as-silence",
        "a slow consumer makes the feed reconnect for no reason",
        _LIVENESS,
        "        self._frame += pause\n        self._data += pause\n        self._pong += pause\n",
        "        self._frame += pause\n        self._data += pause\n",
    ),
    Mutant(
        "ping-not-sent",
        "in a quiet market the venue, or a proxy, drops the connection",
        _CONNECTION,
        "nursery.start_soon(self._ping, wire)",
        "pass",
    ),
    Mutant(
        "dialling-unbounded",
        "a firewall that drops packets stops the feed for good",
        _CONNECTION,
        "trio.move_on_after(self._config.connect_timeout_s) as deadline",
        "trio.move_on_after(3600.0) as deadline",
    ),
    Mutant(
        "handshake-unbounded",
        "a load balancer without a back end stops the feed for good",
        _CONNECTION,
        "trio.move_on_at(connect_by) as deadline",
        "trio.move_on_at(connect_by + 3600.0) as deadline",
    ),
    Mutant(
        "close-unbounded",
        "the program takes a minute to end",
        _CONNECTION,
        "            with trio.move_on_after(self._config.close_timeout_s):\n                if",
        "            with trio.move_on_after(3600.0):\n                if",
    ),
    Mutant(
        "close-without-close-frame",
        "the venue counts each clean end as a crash",
        _WIRE,
        "await self._connection.aclose(code, reason or None)",
        "await self._stream.aclose()",
    ),
    Mutant(
        "watchdog-left-behind",
        "each reconnect leaves a task and its timers behind",
        _CONNECTION,
        "nursery.start_soon(self._watch, wire, nursery)",
        "trio.lowlevel.spawn_system_task(self._watch, wire, nursery)",
    ),
    Mutant(
        "read-ahead-swapped",
        "after the consumer was slow, messages come in the wrong order",
        _CONNECTION,
        "batch = self._ahead.popleft()",
        "batch = self._ahead.pop()",
    ),
    Mutant(
        "read-ahead-overtaken",
        "new messages overtake those that wait for a slow consumer",
        _CONNECTION,
        "self._announced.is_set() and not self._ahead and not self._sink.full",
        "self._announced.is_set() and not self._sink.full",
    ),
    # --- the wire ---
    Mutant(
        "fragments-lose-their-place",
        "a message in fragments comes before those that were sent before it",
        _WIRE,
        "            self._messages.append(message)\n",
        "            self._messages.insert(0, message)\n",
    ),
    Mutant(
        "violation-not-answered-by-its-code",
        "the venue's log blames the wrong thing",
        _WIRE,
        'error.code.to_bytes(2, "big")',
        '(1002).to_bytes(2, "big")',
    ),
    Mutant(
        "violation-waits-for-ever",
        "after a protocol error the feed hangs until the venue closes TCP",
        _WIRE,
        "        with trio.move_on_after(self._close_timeout_s):\n            try:\n",
        "        with trio.move_on_after(3600.0):\n            try:\n",
    ),
    Mutant(
        "pings-not-answered",
        "the venue drops the connection as dead",
        _WIRE,
        "                elif passed.close is not None or not wire.closing:\n",
        "                elif passed.data[0] == 0x89:\n"
        "                    continue\n"
        "                elif passed.close is not None or not wire.closing:\n",
    ),
    Mutant(
        "close-code-lost",
        "maintenance looks like a reset, and is answered with haste",
        _WIRE,
        "        if passed.close is not None:\n            self._flush()\n"
        "            raise PeerClosed(*passed.close)\n",
        "        if passed.close is not None:\n            self._flush()\n"
        '            raise PeerClosed(1006, "")\n',
    ),
    Mutant(
        "messages-before-a-close-are-dropped",
        "what came with a Close frame is lost without a word",
        _WIRE,
        "        if passed.close is not None:\n            self._flush()\n"
        "            raise PeerClosed(*passed.close)\n",
        "        if passed.close is not None:\n            self._messages.clear()\n"
        "            raise PeerClosed(*passed.close)\n",
    ),
    Mutant(
        "stamped-before-the-read",
        "in a quiet market every message looks as old as the one before it",
        _WIRE,
        "            data = await self._transport.receive_some(size)\n"
        "            self._recv_ns = self._wire.clock.time_ns()\n",
        "            self._recv_ns = self._wire.clock.time_ns()\n"
        "            data = await self._transport.receive_some(size)\n",
    ),
    Mutant(
        "boundary-off-by-one",
        "a message at the end of a read loses its last byte, and the stream its frames",
        _FRAMES,
        "length > limit or stop > last + 4",
        "length > limit or stop > last + 5",
    ),
    Mutant(
        "utf8-not-checked",
        "broken text reaches the decoder as if it were whole",
        _FRAMES,
        "                messages.append(payload.decode())\n",
        '                messages.append(payload.decode("utf-8", "replace"))\n',
    ),
    Mutant(
        "size-limit-not-enforced",
        "one frame's length fills the memory, or stops the feed",
        _FRAMES,
        "        if length > self._limit:\n            raise MessageTooLarge(self._limit)\n",
        "",
    ),
    # --- the feed ---
    Mutant(
        "gap-not-announced-at-reconnect",
        "what was sent during the outage is missing, and nobody is told",
        _FEED,
        "            if transition.epoch > 1:\n",
        "            if transition.epoch > 2:\n",
    ),
    Mutant(
        "reconnect-gap-off-by-one",
        "the first lost message of an outage is not announced",
        _FEED,
        "from_sequence=None if last is None else last + 1",
        "from_sequence=None if last is None else last + 2",
    ),
    Mutant(
        "malformed-gap-missing",
        "a message that could not be read is not announced as lost",
        _FEED,
        "        events += told\n",
        "        events += told[:1]\n",
    ),
    Mutant(
        "hole-off-by-one",
        "the first message of a hole is not announced",
        _SEQUENCE,
        "return Hole(last + 1, sequence - 1)",
        "return Hole(last + 2, sequence - 1)",
    ),
    Mutant(
        "hole-of-one-passed-over",
        "a single lost message is not noticed",
        _SEQUENCE,
        "        if sequence == last + 1:\n",
        "        if last < sequence <= last + 2:\n",
    ),
    Mutant(
        "duplicate-delivered",
        "a trade is counted twice",
        _PRICE,
        '        return [Ignored("duplicate")]',
        "        return [update]",
    ),
    Mutant(
        "not-subscribed-again",
        "after a reconnect the feed is connected, and silent",
        _FEED,
        "            self._subscriptions.reset(self._session)\n",
        "",
    ),
    Mutant(
        "session-not-renewed",
        "the gap of each outage is announced twice, and numbers of the old connection linger",
        _FEED,
        "            self._use_session(self.venue.session())\n            self._sub",
        "            self._sub",
    ),
    Mutant(
        "ack-deadline-ignored",
        "a subscription whose acknowledgement was lost is never asked for again",
        _BOOK,
        "return asked + self.ack_deadline_s * 2.0 **",
        "return math.inf * 2.0 **",
    ),
    Mutant(
        "refused-asked-again",
        "a symbol that does not exist is asked for until the venue bans the address",
        _BOOK,
        "        self._wanted.pop(subscription, None)\n"
        "        self._unwanted.pop(subscription, None)\n",
        "        self._unwanted.pop(subscription, None)\n",
    ),
    Mutant(
        "pace-ignored",
        "requests come faster than the venue allows, and it closes the connection",
        _BOOK,
        "self._next_request = now + self.pace_s",
        "self._next_request = now",
    ),
    Mutant(
        "decode-burst-ignored",
        "a desynchronised stream of garbage is read for ever",
        _FEED,
        "if self._burst.record(trio.current_time()):",
        "if self._burst.record(trio.current_time()) and self._ended:",
    ),
    Mutant(
        "reply-not-sent",
        "the venue's own pings go unanswered, and it drops the connection",
        _FEED,
        "self._outbox.post(item.message)",
        "self._outbox.wake()",
    ),
    Mutant(
        "reconnect-notice-ignored",
        "the venue announces maintenance, and the feed sits on the dead connection",
        _FEED,
        '                self._supervisor.renew(f"the venue asks for it: {item.reason}")\n',
        "                counters.ignored += 1\n",
    ),
    Mutant(
        "state-event-missing",
        "a dashboard shows the feed as connected while it is not",
        _FEED,
        "        events: list[Event] = [self._announcer.state_changed(transition, now_ns)]\n",
        "        events: list[Event] = [self._announcer.state_changed(transition, now_ns)]\n"
        "        if transition.failure is FailureKind.RESET:\n"
        "            events.clear()\n",
    ),
    Mutant(
        "old-connection-kept-at-roll-over",
        "each planned change leaves a connection behind, until the venue's limit is reached",
        _SUPERVISOR,
        "            old.connection.retire()\n",
        "            pass\n",
    ),
    Mutant(
        "roll-over-delivers-twice",
        "after each planned change some trades are counted twice",
        _OVERLAP,
        "            known = item.sequence <= last\n",
        "            known = item.sequence < last\n",
    ),
    # --- books ---
    Mutant(
        "checksum-not-checked",
        "a book that has gone wrong is traded on",
        "_core/resync.py",
        "            message.checksum is not None\n            and self._checksum",
        "            message.checksum is None\n            and self._checksum",
    ),
    Mutant(
        "crossed-book-accepted",
        "a bid over the ask looks like free money",
        "book.py",
        "            if high and low and high[-1] >= low[0]:\n                raise",
        "            if high and low and high[-1] >= 10**12:\n                raise",
    ),
    Mutant(
        "snapshot-adds-to-the-book",
        "levels of before an outage haunt the book",
        "book.py",
        "        self._bids, self._asks = new_bids, new_asks\n",
        "        self.apply(bids, asks)\n",
    ),
    # --- consumers ---
    Mutant(
        "overflow-gap-missing",
        "what a slow consumer missed is not announced",
        _FANOUT,
        "            self._lose(oldest[: count - max(kept, 0)], GapReason.OVERFLOW)\n",
        "",
    ),
    Mutant(
        "newest-dropped",
        "a slow consumer gets the oldest prices, and never the newest",
        _FANOUT,
        "            mailbox.post(events, count=len(events), size=size)\n"
        "            self._trim()\n",
        "            self._lose(events, GapReason.OVERFLOW)\n",
    ),
    Mutant(
        "conflation-keeps-the-oldest",
        "a slow consumer acts on a price that was replaced long ago",
        _FANOUT,
        "                replaced.append(old[1])\n",
        "                replaced.append(event)\n                event = old[1]\n",
    ),
    Mutant(
        "bound-ignored",
        "a slow consumer's queue grows until the memory is full",
        _FANOUT,
        "        while mailbox.over and (entry",
        "        while mailbox.count > 1_000_000 and (entry",
    ),
    Mutant(
        "never-full",
        "with the policy to wait, the queue grows until the memory is full",
        _FANOUT,
        "        return self._mailbox.full and self._blocking\n",
        "        return False\n",
    ),
    # --- digits ---
    Mutant(
        "digits-through-a-float",
        "65000.10 becomes 65000.1, and 18 digits become 17",
        _PRICE,
        "                update.price = amount\n",
        "                update.price = Decimal(str(float(amount)))\n",
    ),
    Mutant(
        "price-and-size-swapped",
        "the first message after each gap has its price in the place of its size",
        "codec.py",
        "            price,\n            size,\n            message.side,\n",
        "            size,\n            price,\n            message.side,\n",
    ),
)

"""Wanted, asked for, confirmed; and asked for again."""

from __future__ import annotations

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from feedhandler._core.subscriptions import Request, SubscriptionBook
from feedhandler.abc import Subscription

A, B, C = (Subscription("price", symbol) for symbol in "ABC")


def test_what_is_wanted_is_asked_for_once() -> None:
    book = SubscriptionBook(5.0)
    book.want([B, A, B])
    assert book.wake_at() == -math.inf
    assert book.due(0.0) == Request((B, A), ())
    assert book.due(0.0) is None
    assert book.pending == {A, B}
    book.confirm([A, C])
    assert (book.confirmed, book.pending) == ({A}, {B})


def test_a_lost_acknowledgement_is_asked_for_again() -> None:
    book = SubscriptionBook(5.0)
    book.want([A])
    book.due(1.0)
    assert book.wake_at() == 6.0
    assert book.due(5.9) is None
    assert book.due(6.0) == Request((A,), ())
    book.confirm([A])
    assert book.wake_at() == math.inf
    assert book.due(100.0) is None


def test_requests_are_paced() -> None:
    book = SubscriptionBook(5.0, 2.0)
    book.want([A])
    assert book.due(0.0) is not None
    book.want([B])
    assert book.wake_at() == 2.0
    assert book.due(1.9) is None
    assert book.due(2.0) == Request((B,), ())


def test_a_new_connection_asks_for_everything_in_the_same_order() -> None:
    book = SubscriptionBook(5.0)
    book.want([C, A])
    book.due(0.0)
    book.confirm([A])
    book.want([B])
    book.unwant([C])
    book.reset()
    assert book.confirmed == book.pending == frozenset()
    assert book.due(10.0) == Request((A, B), ())


def test_unwanting_asks_only_for_what_was_asked() -> None:
    book = SubscriptionBook(5.0)
    book.want([A, B])
    book.unwant([B])
    assert book.due(0.0) == Request((A,), ())
    book.unwant([A])
    assert book.due(0.0) == Request((), (A,))
    assert book.due(5.0) == Request((), (A,)), "until it is confirmed"
    book.unsubscribed([A])
    assert book.due(20.0) is None
    book.want([A])
    assert book.due(20.0) == Request((A,), ())


def test_a_refusal_is_final_and_silence_is_not() -> None:
    book = SubscriptionBook(5.0)
    book.want([A, B])
    book.due(0.0)
    book.refuse(A)
    book.confirm([B])
    assert book.due(100.0) is None
    book.ask_again([A, B])
    assert book.due(100.0) == Request((B,), ())


def test_a_change_of_mind_before_anything_was_sent_forgets_nothing() -> None:
    book = SubscriptionBook(5.0)
    book.want([A])
    book.due(0.0)
    book.unwant([A])
    book.want([A])
    book.unwant([A])
    assert book.due(0.0) == Request((), (A,)), "the venue was asked for it, and may be sending it"


class BookMachine(RuleBasedStateMachine):
    """Whatever happens, a venue that does as it is asked ends with exactly what is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.book = SubscriptionBook(5.0, 1.0)
        self.venue: set[Subscription] = set()
        self.wanted: set[Subscription] = set()
        self.now = 0.0

    @rule(subs=st.lists(st.sampled_from([A, B, C])))
    def want(self, subs: list[Subscription]) -> None:
        self.book.want(subs)
        self.wanted |= set(subs)

    @rule(subs=st.lists(st.sampled_from([A, B, C])))
    def unwant(self, subs: list[Subscription]) -> None:
        self.book.unwant(subs)
        self.wanted -= set(subs)

    @rule(answered=st.booleans(), seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def ask(self, answered: bool, seconds: float) -> None:
        self.now += seconds
        request = self.book.due(self.now)
        if request is not None:
            self.apply(request, answered=answered)

    def apply(self, request: Request, *, answered: bool) -> None:
        self.venue -= set(request.unsubscribe)
        self.venue |= set(request.subscribe)
        if answered:
            self.book.confirm(request.subscribe)
            self.book.unsubscribed(request.unsubscribe)

    @rule()
    def reconnect(self) -> None:
        self.venue.clear()
        self.book.reset()

    @invariant()
    def converges(self) -> None:
        assert self.book.wanted == self.wanted
        assert self.book.confirmed <= self.book.wanted

    def teardown(self) -> None:
        while (at := self.book.wake_at()) < math.inf:
            self.now = max(self.now, at)
            request = self.book.due(self.now)
            assert request is not None
            self.apply(request, answered=True)
        assert self.venue == self.wanted == self.book.confirmed


TestBookMachine = BookMachine.TestCase


def test_it_is_asked_for_less_and_less_often() -> None:
    book = SubscriptionBook(1.0)
    book.want([A])
    asked = []
    now = 0.0
    for _ in range(8):
        assert book.due(now) == Request((A,), ())
        asked.append(now)
        now = book.wake_at()
    assert asked == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 47.0, 63.0]


def test_a_complete_list_ends_what_is_not_in_it() -> None:
    book = SubscriptionBook(5.0)
    book.want([A, B])
    book.due(0.0)
    book.confirm([A, B], complete=True)
    book.unwant([A])
    book.confirm([B], complete=True)
    assert book.due(0.0) == Request((), (A,)), "it was not asked to end yet"
    book.confirm([A, B], complete=True)
    assert book.wake_at() == 5.0
    book.confirm([B], complete=True)
    assert book.wake_at() == math.inf
    assert book.confirmed == {B}


def test_a_refusal_ends_also_what_was_to_end() -> None:
    book = SubscriptionBook(5.0)
    book.want([A])
    book.due(0.0)
    book.unwant([A])
    book.due(0.0)
    book.refuse(A)
    assert book.wake_at() == math.inf


def test_what_the_venue_confirms_unasked_is_ended_when_it_is_unwanted() -> None:
    book = SubscriptionBook(5.0)
    book.want([A])
    book.confirm([A])
    assert book.due(0.0) is None
    book.unwant([A])
    assert book.due(0.0) == Request((), (A,))


def test_a_request_names_no_more_than_the_venue_takes_in_one() -> None:
    book = SubscriptionBook(5.0)
    book.want([A, B, C])
    assert book.unasked
    assert book.due(0.0, at_most=2) == Request((A, B), ())
    assert book.unasked
    assert book.due(0.0, at_most=2) == Request((C,), ())
    assert not book.unasked
    assert book.due(0.0, at_most=2) is None


def test_what_ends_goes_before_what_is_new() -> None:
    book = SubscriptionBook(5.0)
    book.want([A, B])
    book.due(0.0)
    book.unwant([A, B])
    book.want([C])
    assert book.due(0.0, at_most=1) == Request((), (A,)), "else the venue would count one more"
    assert book.due(0.0, at_most=1) == Request((C,), (B,))


def test_an_answer_is_awaited_from_when_the_request_has_gone_out() -> None:
    book = SubscriptionBook(5.0)
    book.want([A, B])
    request = book.due(0.0)
    assert request is not None
    book.confirm([B])
    book.sent(request, asked_at=0.0, now=100.0)
    assert book.due(104.9) is None
    assert book.wake_at() == 105.0
    assert book.due(105.0) == Request((A,), ())


def test_what_was_asked_for_anew_meanwhile_stays_due() -> None:
    book = SubscriptionBook(5.0)
    book.want([A])
    request = book.due(0.0)
    assert request is not None
    book.ask_again([A])
    book.sent(request, asked_at=0.0, now=100.0)
    assert book.due(100.0) == Request((A,), ())


def test_what_ends_and_begins_again_before_the_venue_is_told_goes_on() -> None:
    book = SubscriptionBook(5.0)
    one = Subscription("book", "X")
    book.want([one])
    assert book.due(0.0) is not None
    book.confirm([one])
    for _ in range(2):
        book.unwant([one])
        book.unwant([one])
        book.want([one])
    assert book.due(1.0) is None
    assert book.confirmed == {one}
    assert book.goes_on(one)
    book.unwant([one])
    assert book.due(2.0) == Request((), (one,))
    book.want([one])
    assert not book.goes_on(one)
    assert book.due(3.0) == Request((one,), ())

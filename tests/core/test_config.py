"""Impossible settings: one error that names the value, the rule and the mend."""

from __future__ import annotations

from typing import Any

import pytest

from feedhandler import (
    BackoffConfig,
    BreakerConfig,
    ConfigError,
    ConnectionConfig,
    FailurePolicy,
    FeedConfig,
    OverflowPolicy,
    feed_config_from_mapping,
)

IMPOSSIBLE: list[tuple[type, dict[str, Any], str]] = [
    (ConnectionConfig, {"connect_timeout_s": -1}, "connect_timeout_s"),
    (ConnectionConfig, {"connect_timeout_s": 0}, "connect_timeout_s"),
    (ConnectionConfig, {"close_timeout_s": float("nan")}, "close_timeout_s"),
    (ConnectionConfig, {"close_timeout_s": float("inf")}, "close_timeout_s"),
    (ConnectionConfig, {"heartbeat_interval_s": 0}, "heartbeat_interval_s"),
    (ConnectionConfig, {"heartbeat_interval_s": 45}, "pong_deadline_s"),
    (ConnectionConfig, {"pong_deadline_s": 20}, "pong_deadline_s"),
    (ConnectionConfig, {"pong_deadline_s": "45"}, "pong_deadline_s"),
    (ConnectionConfig, {"frame_stale_s": 20}, "frame_stale_s"),
    (ConnectionConfig, {"data_stale_s": -5}, "data_stale_s"),
    (ConnectionConfig, {"max_message_bytes": 0}, "max_message_bytes"),
    (ConnectionConfig, {"max_message_bytes": 1.5}, "max_message_bytes"),
    (ConnectionConfig, {"buffer_messages": True}, "buffer_messages"),
    (ConnectionConfig, {"send_queue_messages": 0}, "send_queue_messages"),
    (BackoffConfig, {"base_s": -0.1}, "base_s"),
    (BackoffConfig, {"factor": 0.5}, "factor"),
    (BackoffConfig, {"base_s": 2, "cap_s": 1}, "cap_s"),
    (BackoffConfig, {"max_retries": -1}, "max_retries"),
    (BreakerConfig, {"failure_threshold": 0}, "failure_threshold"),
    (BreakerConfig, {"failure_rate": 0.0}, "failure_rate"),
    (BreakerConfig, {"failure_rate": 1.1}, "failure_rate"),
    (BreakerConfig, {"open_s": 100}, "open_cap_s"),
    (FeedConfig, {"buffer_events": 0}, "buffer_events"),
    (FeedConfig, {"decode_burst": 0}, "decode_burst"),
    (FeedConfig, {"ack_deadline_s": 0}, "ack_deadline_s"),
    (FeedConfig, {"subscribe_pace_s": -1}, "subscribe_pace_s"),
]


@pytest.mark.parametrize(("cls", "settings", "name"), IMPOSSIBLE)
def test_an_impossible_setting_is_named_with_its_rule_and_its_mend(
    cls: type, settings: dict[str, Any], name: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        cls(**settings)
    error = caught.value
    assert error.name == name
    assert str(error) == f"{name}={error.value!r}: {error.rule}; {error.mend}"
    assert error.rule
    assert error.mend


def test_settings_come_from_a_mapping() -> None:
    config = feed_config_from_mapping(
        {
            "overflow": "conflate",
            "breaker": {"failure_threshold": 3},
            "connection": {"data_stale_s": 5, "frame_stale_s": None},
            "backoff": {"jitter": False, "max_retries": 0},
        }
    )
    assert config == FeedConfig(
        overflow=OverflowPolicy.CONFLATE,
        breaker=BreakerConfig(failure_threshold=3),
        connection=ConnectionConfig(data_stale_s=5, frame_stale_s=None),
        backoff=BackoffConfig(jitter=False, max_retries=0),
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"connection": {"pong_deadline_s": 1}}, "pong_deadline_s=1"),
        ({"connection": {"pong_dedline_s": 1}}, "pong_dedline_s"),
        ({"overflow": "explode"}, "overflow='explode': .* use one of .*'drop_oldest'"),
        ({"backoff": {"jitter": "no"}}, "jitter='no': must be bool"),
        ({"backoff": {"base_s": "soon"}}, "base_s='soon'"),
        ({"buffers": 1}, "buffers"),
    ],
)
def test_a_wrong_mapping_is_one_error_with_the_path(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        feed_config_from_mapping(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overflow": "block"}, "overflow='block': must be OverflowPolicy"),
        ({"connection": None}, "connection=None: must be ConnectionConfig"),
        ({"breaker": True}, "breaker=True: must be BreakerConfig or None"),
        ({"backoff": {}}, "backoff={}: must be BackoffConfig"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FeedConfig(**settings)


def test_settings_have_to_be_a_table() -> None:
    with pytest.raises(ConfigError, match="must be a table"):
        feed_config_from_mapping([])  # type: ignore[arg-type]  # the mistake


@pytest.mark.parametrize(
    "settings", [{"scale": 0}, {"scale": -1}, {"scale": float("nan")}, {"cap_s": 0},
                 {"minimum_s": -1}, {"fatal_after": -1}],
)  # fmt: skip
def test_an_impossible_failure_policy_is_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ConfigError, match=f"{name}="):
        FailurePolicy(**settings)

"""One alert when an incident opens, one recovery when it closes, and nothing in between."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churn_assets.core.monitoring.incidents import Observation, duration, latest, update

START = datetime(2026, 3, 1, tzinfo=UTC)


def observed(key: str, state: Any, at: int = 0, **more: Any) -> Observation:
    return Observation(
        id=str(at),
        key=key,
        kind="check",
        state=state,
        title=f"{key} fails",
        text=f"{key} is {state}",
        since=START + timedelta(seconds=at),
        link="http://ui",
        **more,
    )


sequences = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["failing", "well", "notice"]))
).map(lambda pairs: [observed(key, state, at) for at, (key, state) in enumerate(pairs)])


def test_an_incident_is_reported_when_it_opens_and_when_it_closes() -> None:
    messages, left = update(
        {},
        [
            observed("a", "well", 0),
            observed("a", "failing", 10, numbers={"value": 0.5, "limit": 0.1}, runbook="r"),
            observed("a", "failing", 20, numbers={"value": 0.6}),
            observed("a", "well", 7_210),
            observed("a", "well", 7_220),
        ],
    )
    alert, recovery = messages
    assert (alert.status, alert.numbers, alert.runbook) == (
        "alert",
        {"value": 0.5, "limit": 0.1},
        "r",
    )
    assert (alert.since, alert.until, alert.lasted) == (START + timedelta(seconds=10), None, "")
    assert (recovery.status, recovery.title, recovery.text) == ("recovery", "a fails", "a is well")
    assert (recovery.since, recovery.lasted) == (alert.since, "2 h")
    assert left == {}


def test_a_notice_opens_no_incident() -> None:
    messages, left = update({}, [observed("a", "notice", 1), observed("a", "notice", 2)])
    assert [message.status for message in messages] == ["notice", "notice"]
    assert left == {}


@given(sequences)
def test_alerts_and_recoveries_of_a_key_alternate(observations: list[Observation]) -> None:
    messages, left = update({}, observations)
    for key in "abc":
        statuses = [m.status for m in messages if m.title.startswith(key) and m.status != "notice"]
        alternating = ["alert", "recovery"] * (len(statuses) // 2)
        assert statuses == alternating + ["alert"] * (key in left)


@given(sequences)
def test_open_incidents_are_those_whose_last_observation_failed(
    observations: list[Observation],
) -> None:
    _, left = update({}, observations)
    assert set(left) == {o.key for o in latest(observations) if o.state == "failing"}


@given(sequences)
def test_repeated_observations_send_no_message(observations: list[Observation]) -> None:
    _, left = update({}, observations)
    assert update(left, latest(observations)) == ([], left)


@given(sequences, st.integers(0, 20))
def test_messages_do_not_depend_on_how_ticks_split_the_observations(
    observations: list[Observation], at: int
) -> None:
    first, between = update({}, observations[:at])
    second, left = update(between, observations[at:])
    assert (first + second, left) == update({}, observations)


@given(sequences)
def test_message_ids_are_unique(observations: list[Observation]) -> None:
    ids = [message.id for message in update({}, observations)[0]]
    assert len(ids) == len(set(ids))


def test_an_observation_round_trips_as_json() -> None:
    kept = observed("a", "failing", 3, numbers={"value": 0.1, "rows": 7, "worst": "age"})
    assert Observation.model_validate_json(kept.model_dump_json()) == kept


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"), (0, "0 s"), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (125, "2 min 5 s"),
        (3_600, "1 h"), (3_605, "1 h"), (90_000, "1 d 1 h"), (86_400 * 30, "30 d"),
    ],
)  # fmt: skip
def test_durations_have_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text

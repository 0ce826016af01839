"""The hash chain of the audit log: every change is detected and named at its entry."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churn_assets.core.governance.audit import START, AuditEntry, canonical, next_entry, verify

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TEXTS = [name for name, field in AuditEntry.model_fields.items() if field.annotation is str]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
evidences = st.dictionaries(st.text(), values, max_size=3)


def chain(*evidences: dict[str, Any]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for i, evidence in enumerate(evidences):
        fields = {"actor": "ada", "action": "promotion", "subject": "m", "reason": f"r{i}"}
        at = NOW + timedelta(seconds=i)
        entries.append(
            next_entry(entries, at, **fields, before=str(i), after=str(i + 1), evidence=evidence)
        )
    return entries


chains = st.lists(evidences, min_size=1, max_size=5).map(lambda some: chain(*some))


def first_altered(entries: list[AuditEntry], anchor: str = "") -> int:
    verdict = verify(entries, anchor)
    assert not verdict.passed
    position = verdict.numbers["first_altered"]
    assert verdict.description.startswith(f"Entry {position} ")
    return int(position)


@given(chains)
def test_an_unaltered_chain_passes(entries: list[AuditEntry]) -> None:
    assert verify(entries).passed
    assert all(verify(entries, anchor=entry.hash).passed for entry in entries)
    read = [AuditEntry.model_validate_json(entry.model_dump_json()) for entry in entries]
    assert verify(read).passed


def test_an_empty_log_passes_without_an_anchor_only() -> None:
    assert verify([]).passed
    assert first_altered([], anchor="f" * 64) == 1


@given(chains, st.data())
@settings(max_examples=60)
def test_any_change_of_any_field_is_named_at_its_entry(
    entries: list[AuditEntry], data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, len(entries) - 1))
    name = data.draw(st.sampled_from(list(AuditEntry.model_fields)))
    old = getattr(entries[place], name)
    others: dict[str, st.SearchStrategy[Any]] = {
        "sequence": st.integers(),
        "at": st.datetimes(timezones=st.just(UTC)),
        "evidence": evidences,
    }
    same = canonical(old) if name == "evidence" else old
    new = data.draw(
        others.get(name, st.text()).filter(
            lambda value: (canonical(value) if name == "evidence" else value) != same
        )
    )
    entries[place] = entries[place].model_copy(update={name: new})
    assert first_altered(entries) == place + 1


@given(chains, st.data())
@settings(max_examples=60)
def test_a_missing_entry_is_named(entries: list[AuditEntry], data: st.DataObject) -> None:
    anchor = entries[-1].hash
    place = data.draw(st.integers(0, len(entries) - 1))
    del entries[place]
    assert first_altered(entries, anchor) == place + 1


@given(chains.filter(lambda entries: len(entries) > 1), st.data())
@settings(max_examples=60)
def test_swapped_entries_are_named_at_the_first(
    entries: list[AuditEntry], data: st.DataObject
) -> None:
    places = st.lists(st.integers(0, len(entries) - 1), min_size=2, max_size=2, unique=True)
    one, other = sorted(data.draw(places))
    entries[one], entries[other] = entries[other], entries[one]
    assert first_altered(entries) == one + 1


def test_a_recreated_entry_does_not_match_the_next() -> None:
    entries = chain({}, {}, {})
    forged = entries[1].model_copy(update={"actor": "eve"})
    entries[1] = forged.model_copy(update={"hash": forged.hash_of_content})
    assert first_altered(entries) == 3
    assert "one of the two was recreated" in verify(entries).description


def test_a_recreated_chain_does_not_match_the_champions_anchor() -> None:
    anchor = chain({}, {})[-1].hash
    forged = chain({}, {"other": 1})
    assert verify(forged).passed
    assert first_altered(forged, anchor) == 3


@pytest.mark.parametrize(
    ("written", "says"), [(1, "Entry 2 was inserted"), (2, ""), (3, "Entry 3 is missing")]
)
def test_the_number_of_written_entries_is_verified(written: int, says: str) -> None:
    verdict = verify(chain({}, {}), written=written)
    assert verdict.passed is not bool(says)
    assert says in verdict.description


def test_an_entry_follows_the_one_before() -> None:
    first, second = chain({"a": 1}, {"b": [None, 1.5]})
    assert (first.sequence, first.previous_hash) == (1, START)
    assert (second.sequence, second.previous_hash) == (2, first.hash)
    assert second.hash == second.hash_of_content


@pytest.mark.parametrize("evidence", [{"a": float("nan")}, {"a": float("inf")}])
def test_evidence_is_json(evidence: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        chain(evidence)

"""Validation of a snapshot: rows that honour the contract, and quarantined rows with reasons.

Pandera checks the limits. Unreadable text (`parsing`) and repeated ids are added to its failures,
so that a quarantined row carries every rule that it broke.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pandera.pandas as pa

from churn_assets.contracts.contract import MONTH, Contract
from churn_assets.contracts.schemas import SOURCE_ROW, TEXT, customer_schema
from churn_assets.core.data.features import derive_features
from churn_assets.core.data.parsing import parse_column

REASONS = "reasons"
FAILURE_COLUMNS = [SOURCE_ROW, "column", "value", "rule"]
NOT_NULL = "must not be null"
SHOWN_CHARACTERS = 80
WHOLE_ROW = "(row)"
"""Column name in the failures of a rule on several columns."""


@dataclass(frozen=True)
class Validation:
    """Result of the validation of a month: every row is in exactly one of the two tables.

    Attributes:
        accepted: Typed rows with derived features and the month.
        quarantined: Rejected rows as delivered (text), with `reasons`, a JSON list of
            {"column", "value", "rule"}, and the month.
        failures: One row for each rule that a row broke: source_row, column, value, rule.
    """

    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    failures: pd.DataFrame

    @property
    def rows(self) -> int:
        return len(self.accepted) + len(self.quarantined)

    @property
    def quarantined_share(self) -> float:
        return len(self.quarantined) / self.rows if self.rows else 0.0

    def failures_by_rule(self) -> pd.DataFrame:
        """Counts the rows that broke each rule, most first: column, rule, rows, example."""
        grouped = self.failures.groupby(["column", "rule"], sort=False)
        summary = grouped.agg(rows=(SOURCE_ROW, "nunique"), example=("value", "first"))
        return summary.sort_values("rows", ascending=False, kind="stable").reset_index()


def validate(raw: pd.DataFrame, contract: Contract, month: str) -> Validation:
    """Applies the contract to a snapshot.

    Of rows with the same id only the last one in source order counts, even if it is invalid,
    because it is the latest state in the source. The others are quarantined.

    Args:
        raw: Text columns of `raw_schema(contract)`, any index.
        month: Month YYYY-MM, written into both tables.
    """
    raw = raw.sort_values(SOURCE_ROW, ignore_index=True)
    typed, failures = _parse(raw, contract)
    failures = _concatenated(
        [failures, _broken_limits(typed, raw, failures, contract), _superseded(raw, contract)]
    )
    rejected = np.zeros(len(raw), dtype=bool)
    rejected[failures[SOURCE_ROW].to_numpy(dtype=np.intp)] = True
    accepted = derive_features(typed[~rejected].reset_index(drop=True), contract)
    return Validation(
        accepted=_with_month(accepted, month),
        quarantined=_with_reasons(_with_month(raw[rejected], month), failures),
        failures=failures.assign(**{SOURCE_ROW: raw[SOURCE_ROW].to_numpy()[failures[SOURCE_ROW]]}),
    )


def _parse(raw: pd.DataFrame, contract: Contract) -> tuple[pd.DataFrame, pd.DataFrame]:
    typed, failures = {}, []
    for column in contract.snapshot:
        typed[column.name], faults = parse_column(raw[column.name], column)
        for rule, mask in faults.items():
            if mask.any():
                failures.append(_failures(np.flatnonzero(mask), column.name, rule, raw))
    return pd.DataFrame(typed, index=raw.index), _concatenated(failures)


def _broken_limits(
    typed: pd.DataFrame, raw: pd.DataFrame, unreadable: pd.DataFrame, contract: Contract
) -> pd.DataFrame:
    try:
        customer_schema(contract).validate(typed, lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        if cases["index"].isna().any():
            # A failure without rows concerns the whole snapshot: no row can be quarantined for it.
            raise
    else:
        return _concatenated([])
    # A check over several columns repeats its failure for each of them.
    whole_row = cases["schema_context"] == "DataFrameSchema"
    cases["column"] = cases["column"].mask(whole_row, WHOLE_ROW)
    cases = cases.drop_duplicates(["index", "column", "check"])
    found = _concatenated(
        [
            _failures(
                group["index"].to_numpy(dtype=np.intp),
                str(column),
                _rule(str(column), str(check), contract),
                raw,
            )
            for (column, check), group in cases.groupby(["column", "check"], sort=False)
        ]
    )
    # The parser sets unreadable text to null, so that the null is not a second fault.
    known = pd.MultiIndex.from_frame(unreadable[[SOURCE_ROW, "column"]])
    repeated = pd.MultiIndex.from_frame(found[[SOURCE_ROW, "column"]]).isin(known)
    return found[~(repeated & (found["rule"] == NOT_NULL))]


def _superseded(raw: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    ids = raw[contract.id.name]
    repeated = np.flatnonzero(ids.duplicated(keep="last") & ids.notna() & (ids != ""))
    return _failures(repeated, contract.id.name, "must be unique: a later row has the same", raw)


def _rule(column: str, check: str, contract: Contract) -> str:
    if check == "not_nullable":
        return NOT_NULL
    # Limits of the vocabulary are described in words, checks added by a contract by their name.
    if check.startswith(("greater_than", "less_than", "isin", "str_length")):
        return "must be " + contract[column].limits
    return "must pass " + check


def _failures(rows: np.ndarray, column: str, rule: str, raw: pd.DataFrame) -> pd.DataFrame:
    """Returns the failures of one rule; `source_row` is a position in `raw` until the end."""
    if column in raw:
        values = raw[column].iloc[rows].astype(TEXT)
        values = values.where(values.str.len() <= SHOWN_CHARACTERS, values.str[:SHOWN_CHARACTERS])
    else:
        values = pd.Series([pd.NA] * len(rows), dtype=TEXT)
    return pd.DataFrame({SOURCE_ROW: rows, "column": column, "value": values.array, "rule": rule})


def _concatenated(parts: list[pd.DataFrame]) -> pd.DataFrame:
    some = [part for part in parts if len(part)]
    if some:
        return pd.concat(some, ignore_index=True)
    empty = pd.DataFrame(columns=FAILURE_COLUMNS, dtype=object)
    return empty.astype({SOURCE_ROW: np.int64, "value": TEXT})


def _with_reasons(quarantined: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    reasons: dict[int, list[dict[str, str | None]]] = {row: [] for row in quarantined.index}
    for row, column, value, rule in failures[FAILURE_COLUMNS].itertuples(index=False):
        shown = None if pd.isna(value) else value
        reasons[row].append({"column": column, "value": shown, "rule": rule})
    texts = [json.dumps(faults, ensure_ascii=False) for faults in reasons.values()]
    return quarantined.assign(
        **{REASONS: pd.Series(texts, index=quarantined.index, dtype=TEXT)}
    ).reset_index(drop=True)


def _with_month(frame: pd.DataFrame, month: str) -> pd.DataFrame:
    return frame.assign(**{MONTH: pd.Series(month, index=frame.index, dtype=TEXT)})

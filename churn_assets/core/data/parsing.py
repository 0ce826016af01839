"""Parsing of text columns into typed values and faults; no value is ever changed silently."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from churn_assets.contracts.contract import NUMBER_LIMIT, Column
from churn_assets.contracts.schemas import TEXT

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
FLAGS = {
    "true": True, "yes": True, "1": True, "1.0": True,
    "false": False, "no": False, "0": False, "0.0": False,
}  # fmt: skip
"""pandas writes a flag that has nulls as 1.0 and 0.0."""

Faults = dict[str, "np.ndarray[Any, np.dtype[np.bool_]]"]
"""Mask of the rows that break a rule, shape (n,), by rule."""


def parse_column(text: pd.Series, column: Column) -> tuple[pd.Series, Faults]:
    """Parses one column of text into the kind that the contract declares.

    Blank text becomes null. An unreadable value is null in the result and true in the mask of the
    rule that it breaks.

    Args:
        text: Pyarrow strings, shape (n,).

    Returns:
        The values in the contract's dtype, and the faults.
    """
    arrow = pa.chunked_array(pa.array(text, type=pa.large_string()))
    trimmed = pc.utf8_trim_whitespace(arrow)
    blank = _mask(pc.equal(trimmed, ""))
    if column.kind == "number":
        return _parse_number(trimmed, blank, column, text.index)
    if column.kind == "flag":
        return _parse_flag(trimmed, blank, text.index)
    return _parse_text(text, trimmed, blank, column)


def parse_label(text: pd.Series) -> tuple[pd.Series, Faults]:
    """Parses a label column; a blank label is null, which means unknown."""
    arrow = pc.utf8_trim_whitespace(pa.chunked_array(pa.array(text, type=pa.large_string())))
    return _parse_flag(arrow, _mask(pc.equal(arrow, "")), text.index)


def _parse_text(
    text: pd.Series, trimmed: pa.ChunkedArray, blank: Any, column: Column
) -> tuple[pd.Series, Faults]:
    faults: Faults = {}
    if column.role == "id" or (column.kind == "category" and column.values is None):
        # Otherwise "0001 " and "0001" would be two customers, or two cities.
        arrow = pa.chunked_array(pa.array(text, type=pa.large_string()))
        spaced = ~blank & _mask(pc.not_equal(trimmed, arrow))
        faults["must have no spaces around it"] = spaced
        blank = blank | spaced
    return text.mask(blank).astype(TEXT) if blank.any() else text.astype(TEXT), faults


def _parse_number(
    text: pa.ChunkedArray, blank: Any, column: Column, index: pd.Index
) -> tuple[pd.Series, Faults]:
    given = ~blank & _mask(pc.is_valid(text))
    readable = _mask(pc.match_substring_regex(text, NUMBER))
    unsigned = pc.utf8_ltrim(text, "+")  # Arrow parses a minus, but not a plus.
    values = pc.if_else(pa.array(readable), unsigned, None).cast(pa.float64()).to_numpy()
    faults = {"must be a number": given & ~readable}
    with np.errstate(invalid="ignore"):
        too_large = readable & ~(np.abs(values) <= NUMBER_LIMIT)
    faults[f"must lie within {NUMBER_LIMIT:g} of zero"] = too_large
    values = np.where(too_large, np.nan, values)
    if not column.whole:
        return pd.Series(values, index=index), faults
    broken = np.isfinite(values) & (values != np.floor(values))
    faults["must be a whole number"] = broken
    null = broken | np.isnan(values)
    # Same result as in pandas, without a second test that every value is whole.
    whole = pd.arrays.IntegerArray(np.where(null, 0, values).astype(np.int64), null)
    return pd.Series(whole, index=index), faults


def _parse_flag(text: pa.ChunkedArray, blank: Any, index: pd.Index) -> tuple[pd.Series, Faults]:
    lower = pd.Series(pc.utf8_lower(text).to_pandas().to_numpy(), index=index)
    values = lower.map(FLAGS).astype("boolean")
    given = ~blank & _mask(pc.is_valid(text))
    return values, {"must be true or false": given & values.isna().to_numpy()}


def _mask(condition: pa.ChunkedArray) -> Any:
    return pc.fill_null(condition, False).to_numpy().astype(bool)

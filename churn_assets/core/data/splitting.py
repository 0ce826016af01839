"""The rows that a model is made of, and which of them it may learn from.

A customer's hash decides on which side of the split all of that customer's rows lie, so that no
customer is ever on two sides. Where there are months enough, the test rows are later than all
others as well: the model is tested on people it never saw, in a month it never saw, and learns
from nothing that was not known yet when that month's snapshot was taken.
"""

import hashlib

import numpy as np
import pandas as pd

from churn_assets.contracts.contract import MONTH, Contract
from churn_assets.contracts.schemas import TEXT

SPLIT = "split"
TRAINING, CALIBRATION, TEST = "training", "calibration", "test"
CALIBRATION_SHARE, TEST_SHARE = 0.15, 0.15
MONTHS_FOR_OUT_OF_TIME = 3


def training_rows(features: pd.DataFrame, labels: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Joins labels to features of the same month and gives every row its split.

    With at least three labelled months, the test rows are the test customers' in the last month,
    and training and calibration rows are the other customers' in the months whose labels were
    known by then: those at least the contract's horizon earlier. What is left over (test
    customers' earlier rows, other customers' later rows) is not used. With fewer months, or none
    so early, the customers alone are split.

    Args:
        features: typed rows of any months.
        labels: id, label and month; rows with a null label are unknown and left out.

    Returns:
        The joined rows with column `split`, sorted by month and id.
    """
    keys = [contract.id.name, MONTH]
    known = labels.dropna(subset=[contract.label.name])
    rows = features.merge(known, on=keys, how="inner", validate="one_to_one")
    rows = rows.sort_values([MONTH, contract.id.name], ignore_index=True)
    side = pd.Series(split_of(rows[contract.id.name]), index=rows.index, dtype=TEXT)
    months = rows[MONTH].unique()
    if len(months) >= MONTHS_FOR_OUT_OF_TIME:
        last_known = _months_before(months[-1], contract.horizon_months)
        if months[0] <= last_known:
            tested = rows[MONTH] == months[-1]
            used = tested.where(side == TEST, rows[MONTH] <= last_known)
            rows, side = rows[used], side[used]
    return rows.assign(**{SPLIT: side}).reset_index(drop=True)


def split_of(ids: pd.Series) -> np.ndarray:
    """The side of each customer, by a hash of the id: the same on every machine, for ever."""
    unique = ids.unique()
    points = np.array([_point(str(name)) for name in unique])
    sides = np.select(
        [points < TEST_SHARE, points < TEST_SHARE + CALIBRATION_SHARE],
        [TEST, CALIBRATION],
        TRAINING,
    )
    return pd.Series(sides, index=unique).reindex(ids).to_numpy()


def of_split(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """The rows of one side, in an order that depends on nothing but the rows.

    Storage promises no order, and a model is the same to the last bit only from rows in the same
    order: by month, then by the other columns from the first, usually the id, on.
    """
    side = rows[rows[SPLIT] == split]
    others = [str(name) for name in rows if name != MONTH]
    return side.sort_values([MONTH, *others], ignore_index=True)


def ids_on_two_sides(rows: pd.DataFrame, contract: Contract) -> list[str]:
    """Customers who are on more than one side of the split; there must be none."""
    sides = rows.groupby(contract.id.name)[SPLIT].nunique()
    return [str(name) for name in sides[sides > 1].index]


def _months_before(month: str, count: int) -> str:
    return str(pd.Period(month, freq="M") - count)


def _point(name: str) -> float:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

"""The rows that a model is made of, and which of them it may learn from.

A customer's hash decides on which side of the split all of that customer's rows lie, so that no
customer is ever on two sides. Where there are months enough, the test rows are later than all
others as well: the model is tested on people it never saw, in a month it never saw.
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
    and training and calibration rows are the other customers' in the months before; what is left
    over (test customers' earlier rows, other customers' last rows) is not used.

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
        used = (side == TEST) == (rows[MONTH] == months[-1])
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
    """The rows of one side."""
    return rows[rows[SPLIT] == split].reset_index(drop=True)


def ids_on_two_sides(rows: pd.DataFrame, contract: Contract) -> list[str]:
    """Customers who are on more than one side of the split; there must be none."""
    sides = rows.groupby(contract.id.name)[SPLIT].nunique()
    return [str(name) for name in sides[sides > 1].index]


def _point(name: str) -> float:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

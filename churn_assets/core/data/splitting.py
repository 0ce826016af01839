"""Training rows and their splits: training, calibration and test.

A hash of the customer's id decides the split of all of that customer's rows, so that no customer is
ever in two splits. If there are enough months, the test rows are also later than all other rows:
the model is tested on customers and in a month that it has never seen, and it is trained only on
labels that were known when that month's snapshot was taken.
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
    """Joins labels to features of the same month and assigns a split to every row.

    With at least three labelled months, the test rows are the rows of the test customers in the
    last month. The training and calibration rows are the rows of the other customers in the months
    whose labels were known by then: the months at least the contract's horizon earlier. The
    remaining rows (earlier rows of test customers, later rows of other customers) are not used.
    With fewer months, or without a month that early, only the customers are split.

    Args:
        features: Typed rows of any months.
        labels: Id, label and month; rows with a null label are unknown and left out.

    Returns:
        The joined rows with column `split`, sorted by month and id.
    """
    keys = [contract.id.name, MONTH]
    known = labels.dropna(subset=[contract.label.name])
    rows = features.merge(known, on=keys, how="inner", validate="one_to_one")
    rows = rows.sort_values([MONTH, contract.id.name], ignore_index=True)
    split = pd.Series(assign_splits(rows[contract.id.name]), index=rows.index, dtype=TEXT)
    months = rows[MONTH].unique()
    if len(months) >= MONTHS_FOR_OUT_OF_TIME:
        last_known = _months_before(months[-1], contract.horizon_months)
        if months[0] <= last_known:
            tested = rows[MONTH] == months[-1]
            used = tested.where(split == TEST, rows[MONTH] <= last_known)
            rows, split = rows[used], split[used]
    return rows.assign(**{SPLIT: split}).reset_index(drop=True)


def assign_splits(ids: pd.Series) -> np.ndarray:
    """Returns the split of each customer by a hash of the id: the same always and everywhere."""
    unique = ids.unique()
    points = np.array([_point(str(name)) for name in unique])
    splits = np.select(
        [points < TEST_SHARE, points < TEST_SHARE + CALIBRATION_SHARE],
        [TEST, CALIBRATION],
        TRAINING,
    )
    return pd.Series(splits, index=unique).reindex(ids).to_numpy()


def rows_of_split(rows: pd.DataFrame, split: str) -> pd.DataFrame:
    """Returns the rows of one split, in an order that depends only on the rows.

    Storage guarantees no order, and a model is the same to the last bit only if its rows are in the
    same order: by month, then by the other columns from the first one, usually the id.
    """
    selected = rows[rows[SPLIT] == split]
    others = [str(name) for name in rows if name != MONTH]
    return selected.sort_values([MONTH, *others], ignore_index=True)


def ids_in_several_splits(rows: pd.DataFrame, contract: Contract) -> list[str]:
    """Returns the customers that are in more than one split; there must be none."""
    splits = rows.groupby(contract.id.name)[SPLIT].nunique()
    return [str(name) for name in splits[splits > 1].index]


def _months_before(month: str, count: int) -> str:
    return str(pd.Period(month, freq="M") - count)


def _point(name: str) -> float:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

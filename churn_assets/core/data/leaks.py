"""How well single features and pairs of features know the label: leaks of the outcome.

A feature is judged by the churn rates of its values, so a code counts whatever the order of its
numbers. The rates of a customer's values come from other customers (out of fold), so a column with
a value of its own for each customer knows nothing, and neither does chance in a small data set.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_assets.contracts.contract import MONTH, Column, Contract, Frozen
from churn_assets.core.data.features import model_frame
from churn_assets.core.limits import Limits

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

FOLDS = 5
"""Number of folds; the rates of a fold's customers come from the other folds."""

PRIOR_ROWS = 20.0
"""Each value's rate is shrunk towards the overall rate as if by this many average rows."""

MOST_ROWS = 50_000
"""Larger training sets are sampled, so that the step's time is bounded."""

PAIRED_FEATURES = 8
"""Only the strongest features are tested in pairs."""

STORED_FEATURES, STORED_PAIRS = 10, 3
"""Number of associations that a report keeps, beside every leak."""

SHOWN = 3
"""Number of features that a message describes."""

STEMS = (
    "attrit", "cancel", "churn", "deactivat", "disconnect", "lapse", "resign", "terminat",
    "unsubscri",
)  # fmt: skip
WORDS = {
    "closed", "closure", "departed", "departure", "ended", "exit", "exited", "leave", "leaver",
    "leaving", "left", "quit",
}  # fmt: skip
"""Parts of a name that describe the end of a customer's time."""


class Association(Frozen):
    """How well one feature, or a pair of features, knows the label.

    Attributes:
        features: One name, or two.
        auc: ROC AUC of the out-of-fold churn rates of its values.
        identified: Share of the churned rows whose values hardly any retained row has.
    """

    features: tuple[str, ...]
    auc: float
    identified: float

    @property
    def name(self) -> str:
        return " + ".join(self.features)

    def leaks(self, limits: Limits) -> bool:
        """Whether it gives the label away; values at the limits do not."""
        return (
            self.auc > limits.max_label_auc_of_one_feature
            or self.identified > limits.max_identified_share
        )

    def described(self, limits: Limits) -> str:
        """The numbers and their limits, in words."""
        return (
            f"{self.name} has an out-of-fold ROC AUC of {self.auc:.3f} (limit "
            f"{limits.max_label_auc_of_one_feature:g}) and identifies {self.identified:.1%} of the "
            f"churned rows (limit {limits.max_identified_share:.0%})"
        )


def associations(rows: pd.DataFrame, contract: Contract, limits: Limits) -> list[Association]:
    """Returns features and pairs of features by their association with the label.

    The cost is linear in the rows up to `MOST_ROWS`, and in the features. A pair with a feature
    that leaks is not tested, because it would only repeat that leak.

    Args:
        rows: Typed rows with id, month, label and every model input.

    Returns:
        Leaks first, then by descending ROC AUC; empty if a class has too few rows for a judgement,
        or the rows are of one customer.
    """
    rows = _sampled(rows, contract)
    label = rows[contract.label.name].to_numpy(dtype=bool)
    folds = _folds(rows[contract.id.name])
    if min(label.sum(), (~label).sum()) < limits.min_leak_rows or not folds.any():
        return []
    inputs = model_frame(rows, contract)

    def measured(views: dict[tuple[str, ...], list[Codes]], ranks: Ranks) -> list[Association]:
        columns = [(names, codes) for names, found in views.items() for codes in found]
        rates = _out_of_fold_rates(np.column_stack([codes for _, codes in columns]), label, folds)
        scores = [(names, rates[:, i]) for i, (names, _) in enumerate(columns)] + ranks
        return _strongest_first(_by_features(scores, label, limits), limits)

    alone = measured(*_single_views(inputs))
    paired = [one.features[0] for one in alone if not one.leaks(limits)][:PAIRED_FEATURES]
    if len(paired) < 2:
        return alone
    return _strongest_first([*alone, *measured(_pair_views(inputs, paired), [])], limits)


def stored(found: Sequence[Association], limits: Limits) -> tuple[Association, ...]:
    """Returns the associations that a report keeps: every leak, and the strongest others."""
    singles = [one for one in found if len(one.features) == 1][:STORED_FEATURES]
    pairs = [one for one in found if len(one.features) == 2][:STORED_PAIRS]
    return tuple(one for one in found if one.leaks(limits) or one in [*singles, *pairs])


def listed(sentences: Sequence[str]) -> str:
    """Returns the first sentences, and how many more there are: a message must stay short."""
    more = len(sentences) - SHOWN
    return "; ".join(sentences[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def named_like_the_label(contract: Contract) -> list[str]:
    """Returns the model inputs whose name sounds as if it was recorded after a customer left.

    The name in the source counts as well. A name alone is a hint, and proves nothing.
    """
    own = "_".join(_words(contract.label.name))
    features = {column.name: _names(column) for column in contract.features}
    named = features | {feature.name: (feature.name,) for feature in contract.derived}
    return [
        name for name, names in named.items() if any(_sounds(_words(one), own) for one in names)
    ]


Ranks = list[tuple[tuple[str, ...], Floats]]
"""Scores of rows that need no rates, by features."""


def _sampled(rows: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Returns at most `MOST_ROWS` rows; the same ones whatever the order of the rows."""
    rows = rows.sort_values([MONTH, contract.id.name], ignore_index=True)
    return rows if len(rows) <= MOST_ROWS else rows.sample(MOST_ROWS, random_state=0)


def _folds(ids: pd.Series) -> Codes:
    """Returns the fold of each row: all rows of a customer are in one fold."""
    codes, customers = pd.factorize(ids.astype(object), sort=True)
    order: Codes = np.random.default_rng(0).permutation(len(customers)) % FOLDS
    return order[codes]


def _single_views(inputs: pd.DataFrame) -> tuple[dict[tuple[str, ...], list[Codes]], Ranks]:
    """Returns the groupings of each feature: by value, and by null where it has nulls.

    A number with too many values for that is grouped by quantiles and, since a leak may lie within
    a group, ranked by its value in both directions.
    """
    groups = int(np.clip(len(inputs) // 10, 20, 200))
    views: dict[tuple[str, ...], list[Codes]] = {}
    ranks: Ranks = []
    for name, values in inputs.items():
        key, null = (str(name),), values.isna()
        category = values.dtype == object
        views[key] = [_groups(values, len(values) if category else groups)]
        if null.any():
            views[key].append(null.to_numpy().astype(np.int64))
        if not category and values.nunique() > groups:
            numbers = values.fillna(values.median()).to_numpy(dtype=np.float64)
            ranks += [(key, numbers), (key, -numbers)]
    return views, ranks


def _pair_views(inputs: pd.DataFrame, names: Sequence[str]) -> dict[tuple[str, ...], list[Codes]]:
    """Returns the grouping of each pair of features, coarse enough for several rows a group."""
    groups = int(np.clip(np.sqrt(len(inputs) / 10), 4, 20))
    codes = {name: _groups(inputs[name], groups) for name in names}
    return {
        (one, other): [codes[one] * (codes[other].max() + 1) + codes[other]]
        for one, other in combinations(names, 2)
    }


def _groups(values: pd.Series, most: int) -> Codes:
    """Returns the group of each row: its value, where there are at most `most` values.

    Otherwise the rarest categories are one group, and numbers are grouped by quantiles. A value
    that is itself a quantile is a group of its own, and so are nulls.
    """
    codes, names = pd.factorize(values, use_na_sentinel=False)
    if len(names) <= most:
        return codes.astype(np.int64)
    if values.dtype == object:
        frequent = np.argsort(-np.bincount(codes), kind="stable")[: most - 1]
        return np.where(np.isin(codes, frequent), codes, len(names)).astype(np.int64)
    numbers = values.to_numpy(dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    shares = np.arange(1, most // 2) / (most // 2)
    edges = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    own = np.searchsorted(edges, numbers, "left") + np.searchsorted(edges, numbers, "right")
    return np.where(np.isnan(numbers), -1, own).astype(np.int64) + 1


def _out_of_fold_rates(codes: NDArray[np.int64], label: NDArray[np.bool_], folds: Codes) -> Floats:
    """Returns the churn rate of each row's group among the other folds' rows, column by column.

    A group without rows there has the overall rate.
    """
    from sklearn.model_selection import PredefinedSplit
    from sklearn.preprocessing import TargetEncoder

    encoder = TargetEncoder(target_type="continuous", smooth=PRIOR_ROWS, cv=PredefinedSplit(folds))
    return np.asarray(encoder.fit_transform(codes, label.astype(np.float64)), dtype=np.float64)


def _by_features(scores: Ranks, label: NDArray[np.bool_], limits: Limits) -> Iterator[Association]:
    """Yields the association of each feature or pair: the best of its scores."""
    from sklearn.metrics import roc_auc_score

    best: dict[tuple[str, ...], tuple[float, float]] = {}
    for names, values in scores:
        auc, identified = best.get(names, (0.0, 0.0))
        best[names] = (
            max(auc, float(roc_auc_score(label, values))),
            max(identified, _identified(values, label, limits)),
        )
    for names, (auc, identified) in best.items():
        yield Association(features=names, auc=auc, identified=identified)


def _identified(scores: Floats, label: NDArray[np.bool_], limits: Limits) -> float:
    """Returns the largest share of churned rows that have the highest scores all to themselves.

    Of the rows from a score on, the limits name the least share that must have churned, and the
    least number: a few rows may all have churned by chance.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(label, scores)
    # The product is a whole number, but for the last bits of the float.
    enough = np.rint(recall * label.sum()) >= limits.min_leak_rows
    pure = precision >= limits.min_identifying_rate
    return float(recall[enough & pure].max(initial=0.0))


def _strongest_first(found: Iterable[Association], limits: Limits) -> list[Association]:
    return sorted(found, key=lambda one: (not one.leaks(limits), -one.auc))


def _names(column: Column) -> tuple[str, str]:
    return column.name, column.source_name


def _words(name: str) -> list[str]:
    """Returns the words of a name in snake case or camel case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]


def _sounds(words: Sequence[str], label: str) -> bool:
    return (
        f"_{label}_" in f"_{'_'.join(words)}_"
        or not WORDS.isdisjoint(words)
        or any(word.startswith(STEMS) for word in words)
    )

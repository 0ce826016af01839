"""Linear scorers with random weights, for the tests."""

import numpy as np

from churn_assets.contracts.contract import Contract
from churn_assets.core.modelling.scorer import Codes, LinearScorer, Scorer

CITIES = ("Berlin", "Paris")


def linear_scorer(contract: Contract, seed: int, cities: tuple[str, ...] = CITIES) -> Scorer:
    """Returns a scorer whose probability depends on every value of every input.

    Args:
        cities: Known values of every open category.
    """
    rng = np.random.default_rng(seed)
    codes, rows = {}, 0
    for name in contract.categories:
        known = contract[name].values or cities
        codes[name] = Codes(
            {value: rows + 2 + i for i, value in enumerate(known)}, null=rows, unknown=rows + 1
        )
        rows += 2 + len(known)
    terms = rng.normal(0, 0.3, (len(contract.numbers), 4))
    terms[:, 2] = 100.0
    return LinearScorer(
        contract.numbers, codes, slope=-1.0, offset=0.5, terms=terms,
        weights=rng.normal(0, 0.3, rows), limits=np.array([1e15, 10.0]), intercept=np.array(-0.5),
    )  # fmt: skip

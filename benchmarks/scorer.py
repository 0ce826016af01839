"""Speed of the scorer, compared with the sklearn pipeline that it was compiled from.

    python -m benchmarks.scorer

Both score the same random customers in the same run: one alone, as for a request, and the batch of
a month. The model is about the largest that the hyperparameter search may choose.
"""

import itertools
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.modelling.compiling import compile_scorer
from churn_assets.core.modelling.pipelines import boosting_pipeline

TREES = 300
LEAVES = 8
ROWS = 100_000
REQUESTS = 2_000

LEAST_ALONE = 500
LEAST_IN_BULK = 4
SAME = 1e-12


def main() -> None:
    contract = load_contract("telecom")
    customers = random_customers(contract, ROWS)
    churn = np.random.default_rng(1).random(ROWS) < 1 / (1 + np.exp(-customers.iloc[:, 0] / 30 + 2))
    pipeline = boosting_pipeline(contract)
    pipeline.set_params(model__max_iter=TREES, model__max_leaf_nodes=LEAVES)
    pipeline.fit(customers[:20_000], churn[:20_000])
    model = CalibratedClassifierCV(FrozenEstimator(pipeline)).fit(
        customers[20_000:30_000], churn[20_000:30_000]
    )
    scorer = compile_scorer(model, contract)
    columns = {name: customers[name].to_numpy() for name in scorer.inputs}
    frame = customers[:1]
    requests: list[Mapping[str, Any]] = [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in customers[:REQUESTS].to_dict("records")
    ]

    def one_request() -> object:
        return model.predict_proba(frame)

    endless = itertools.cycle(requests)
    alone = compare("1 row, calls in a row", one_request, lambda: scorer.score_one(next(endless)))
    cold = compare(
        "1 row, taking turns", one_request, lambda: scorer.score_one(next(endless)), block=1
    )
    bulk = compare(
        f"{ROWS} rows",
        lambda: model.predict_proba(customers),
        lambda: scorer.score(columns),
        blocks=5,
        block=1,
    )
    difference = np.abs(model.predict_proba(customers)[:, 1] - scorer.score(columns)).max()
    verdict("1 row, times faster", alone, alone >= LEAST_ALONE, f">= {LEAST_ALONE}")
    verdict("1 row, caches cold", cold, cold >= LEAST_ALONE, f">= {LEAST_ALONE}")
    verdict("batch, times faster", bulk, bulk >= LEAST_IN_BULK, f">= {LEAST_IN_BULK}")
    verdict("largest difference", difference, difference <= SAME, f"<= {SAME}")


def compare(
    name: str,
    peer: Callable[[], object],
    own: Callable[[], object],
    blocks: int = 20,
    block: int = 20,
) -> float:
    """How many times faster `own` is than `peer`; prints the median of each.

    The two take turns after each block of calls. With blocks of one call, the processor's caches
    hold the data of `peer` when `own` starts: about the worst case for `own`.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(blocks):
        for function, taken in zip((peer, own), times, strict=True):
            for _ in range(block):
                began = perf_counter()
                function()
                taken.append(perf_counter() - began)
    pipeline, scorer = (statistics.median(taken) for taken in times)
    print(f"{name}: pipeline {pipeline * 1e6:,.1f} us, scorer {scorer * 1e6:,.1f} us")
    return pipeline / scorer


def verdict(name: str, value: float, passed: bool, aim: str) -> None:
    print(f"{name}: {value:,.4g}, aim {aim}: {'pass' if passed else 'miss'}")


def random_customers(contract: Contract, n: int) -> pd.DataFrame:
    """Model inputs with nulls in every column."""
    random = np.random.default_rng(0)
    columns = {}
    for name in contract.model_inputs:
        if name in contract.numbers:
            values = random.gamma(2.0, 20.0, n)
        else:
            known = contract[name].values or tuple(f"place {i}" for i in range(40))
            values = random.choice(np.array(known, dtype=object), n)
        columns[name] = np.where(random.random(n) < 0.05, np.nan, values)
    return pd.DataFrame(columns)


if __name__ == "__main__":
    main()

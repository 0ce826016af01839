"""The model compared with the true hazard, which only the simulator knows.

    python -m benchmarks.hazard

The months of a large operator are processed as in the graph, from the source to the compiled
scorer, but without the lake. The labels are drawn from the hazard, so no model can rank customers
better than the hazard, except by chance.
"""

from time import perf_counter

import pandas as pd
from sklearn.metrics import roc_auc_score

from benchmarks.table import Line, show
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.contracts.contract import MONTH
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.features import model_columns
from churn_assets.core.data.splitting import (
    CALIBRATION,
    TEST,
    TRAINING,
    rows_of_split,
    training_rows,
)
from churn_assets.core.data.validation import validate
from churn_assets.core.modelling.compiling import compile_scorer
from churn_assets.core.modelling.training import train
from churn_assets.core.simulation.simulator import Simulator

CUSTOMERS = 100_000
MONTHS = [str(month) for month in pd.period_range("2025-01", periods=5, freq="M")]

MOST_LOST = 0.01


def main() -> None:
    contract = load_contract("telecom")
    simulator = Simulator(CUSTOMERS)
    source = SimulatedSource(contract, simulator)
    features, labels = [], []
    for month in MONTHS:
        features.append(validate(source.snapshot(month), contract, month).accepted)
        labels.append(source.labels(month))
    rows = training_rows(pd.concat(features), pd.concat(labels), contract)
    training, calibration, test = (
        rows_of_split(rows, split) for split in (TRAINING, CALIBRATION, TEST)
    )

    began = perf_counter()
    model = train(training, calibration, contract)
    seconds = perf_counter() - began

    churned = test[contract.label.name].to_numpy(dtype=bool)
    hazard = pd.concat([simulator.true_hazard(month) for month in test[MONTH].unique()])
    scores = compile_scorer(model.estimator, contract).score(model_columns(test, contract))
    own = float(roc_auc_score(churned, scores))
    best = float(roc_auc_score(churned, hazard[test[contract.id.name]]))
    print(
        f"chosen: {model.chosen}; tested on {len(test):,} rows of {', '.join(test[MONTH].unique())}"
    )
    show(
        [
            Line("ROC AUC, beside the hazard's", own, "", best, own / best),
            Line("ROC AUC lost", best - own, aim=f"<= {MOST_LOST}", passed=best - own <= MOST_LOST),
            Line(f"training on {len(training):,} rows", seconds, "s"),
        ]
    )


if __name__ == "__main__":
    main()

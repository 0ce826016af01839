"""Quality of `core.modelling.training.train` on IBM Telco customers, by cross-validation.

    python -m benchmarks.accuracy

Each of five folds is held out once; a fixed share of the other rows calibrates the model, the rest
trains it. This is repeated four times with other folds. The benchmark takes some minutes.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split

from churn_assets.adapters.sources.rdatasets import RdatasetsSource
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.core.data.validation import validate
from churn_assets.core.modelling.training import probabilities, train

MONTH = "2026-03"
REPEATS = 4
FOLDS = 5
CALIBRATION_SHARE = 0.15
BINS = 10

LEAST_AUC = 0.845
MOST_BRIER = 0.137
MOST_ECE = 0.03


def main() -> None:
    contract = load_contract("ibm_telco")
    customers = load_customers(contract)
    rows = [result for seed in range(REPEATS) for result in one_repeat(customers, contract, seed)]
    table = pd.DataFrame(rows)
    means, deviations = table.mean(numeric_only=True), table.std(numeric_only=True)
    print(table.to_string(float_format="%.4f"))
    print(f"chosen: {table['chosen'].value_counts().to_dict()}")
    for name, aim, passed in (
        ("auc", f">= {LEAST_AUC}", means["auc"] >= LEAST_AUC),
        ("brier", f"<= {MOST_BRIER}", means["brier"] <= MOST_BRIER),
        ("ece", f"<= {MOST_ECE}", means["ece"] <= MOST_ECE),
    ):
        verdict = "pass" if passed else "miss"
        print(f"{name:6} {means[name]:.4f} +- {deviations[name]:.4f}  aim {aim}: {verdict}")


def one_repeat(
    customers: pd.DataFrame, contract: Contract, seed: int
) -> list[dict[str, float | str]]:
    """Quality on each held-out fold."""
    churned = customers[contract.label.name].to_numpy(dtype=np.bool_)
    results: list[dict[str, float | str]] = []
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for others, held_out in folds.split(churned, churned):
        fitted_on, calibrated_on = train_test_split(
            others, test_size=CALIBRATION_SHARE, stratify=churned[others], random_state=seed
        )
        model = train(customers.iloc[fitted_on], customers.iloc[calibrated_on], contract, seed=seed)
        p = probabilities(model.estimator, customers.iloc[held_out], contract)
        y = churned[held_out]
        results.append(
            {
                "auc": float(roc_auc_score(y, p)),
                "brier": float(brier_score_loss(y, p)),
                "ece": expected_calibration_error(y, p),
                "chosen": model.chosen,
            }
        )
    return results


def expected_calibration_error(y: NDArray[np.bool_], p: NDArray[np.float64]) -> float:
    """Mean distance between mean probability and churn rate, over bins of equal width."""
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    surplus = np.bincount(bins, weights=y - p, minlength=BINS)
    return float(np.abs(surplus).sum() / len(y))


def load_customers(contract: Contract) -> pd.DataFrame:
    """The customers as in the graph: validated, with derived features and labels."""
    source = RdatasetsSource(contract)
    validation = validate(source.snapshot(MONTH), contract, MONTH)
    return validation.accepted.merge(source.labels(MONTH), validate="one_to_one")


if __name__ == "__main__":
    main()

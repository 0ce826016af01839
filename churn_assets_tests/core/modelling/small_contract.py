"""A small contract with random customers and calibrated models of it, for the tests."""

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from churn_assets.contracts.contract import Column, Contract, Economics

PLANS = ("basic", "plus", "", "premium")
CITIES = tuple(f"city {i}" for i in range(60))
EXTREMES = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e15, -1e15, -2e15, -0.0, 5e-324)


def small_contract(numbers: int = 3, *, closed: bool = True, open_: bool = True) -> Contract:
    """Returns a contract of an open category, `numbers` numbers and a closed category."""

    def column(name: str, role: str, kind: str, **marks: object) -> Column:
        return Column(name=name, source_name=name, role=role, kind=kind, description=name, **marks)  # type: ignore[arg-type]

    features = [column(f"x{i}", "feature", "number") for i in range(numbers)]
    if open_:
        features.insert(0, column("city", "feature", "category"))
    if closed:
        features.append(column("plan", "feature", "category", values=PLANS))
    return Contract(
        name="small",
        version="1",
        description="small",
        horizon_months=1,
        economics=Economics(value_of_kept_customer=9, cost_of_offer=1, acceptance_rate=0.5),
        columns=(column("id", "id", "text"), *features, column("churned", "label", "flag")),
        source="file",
    )


def customers(
    contract: Contract, n: int, seed: int, *, wild: bool, empty: frozenset[str] = frozenset()
) -> pd.DataFrame:
    """Returns random model inputs; wild ones have extremes and categories unseen in training."""
    random = np.random.default_rng(seed)
    columns: dict[str, np.ndarray] = {}
    for i, name in enumerate(contract.model_inputs):
        if name in contract.numbers:
            # Few distinct values, so that customers lie exactly on the thresholds.
            values = random.normal(size=n).round(i) * 10.0 ** random.integers(-3, 6)
            known = EXTREMES
        else:
            named = contract[name].values
            values = random.choice(np.array(named[:3] if named else CITIES, dtype=object), n)
            known = (np.nan, *(named or ("nowhere", "")))
        extreme = random.random(n) < (0.4 if wild else 0.1)
        chosen = np.array(known, dtype=object)[random.integers(len(known), size=n)]
        values = np.where(extreme, chosen if wild else np.nan, values)
        if name in contract.numbers:
            values = values.astype(np.float64)
        if name in empty:
            values[:] = np.nan
        columns[name] = values
    return pd.DataFrame(columns)


def calibrated(pipeline: Pipeline, frame: pd.DataFrame, seed: int) -> CalibratedClassifierCV:
    """Returns the pipeline, fitted and calibrated on labels that depend on the first input."""
    random = np.random.default_rng(seed)
    first = frame.iloc[:, 0]
    known = pd.factorize(first)[0] if first.dtype == object else first.fillna(0)
    signal = np.clip(np.asarray(known), -1e6, 1e6)
    noise = random.normal(size=len(frame)) * (np.std(signal) + 0.1)
    left = np.asarray(signal + noise > np.median(signal + noise))
    with threadpool_limits(1):
        fitted = FrozenEstimator(pipeline.fit(frame, left))
        return CalibratedClassifierCV(fitted).fit(frame, left)

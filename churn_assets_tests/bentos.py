"""A bento with artificial models, for every test that serves one."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from upath import UPath

from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets.contracts.card import Estimate, ModelCard, ScoreDistribution
from churn_assets.contracts.loading import load_contract
from churn_assets.core.modelling.scorer import Scorer
from churn_assets_tests.core.modelling.linear_scorers import linear_scorer

CONTRACT = load_contract("telecom")


SCORER, FALLBACK = (linear_scorer(CONTRACT, seed) for seed in (1, 3))


def model_card(**changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "name": "churn_telecom",
        "version": "3",
        "chosen": "boosting",
        "contract_name": CONTRACT.name,
        "contract_version": CONTRACT.version,
        "contract_fingerprint": CONTRACT.fingerprint,
        "threshold": CONTRACT.economics.break_even_probability,
        "built_at": datetime(2026, 4, 1, tzinfo=UTC),
        "mlflow_run_id": "0f3a",
        "dagster_run_id": "77",
        "table_versions": {"training_set": 7},
        "test_months": ("2026-02", "2026-03"),
        "test_rows": 1_000,
        "metrics": {"accuracy": Estimate(value=0.9, low=0.88, high=0.92)},
        "scores": ScoreDistribution(edges=(0.1, 0.3), shares=(0.5, 0.3, 0.2)),
    }
    return ModelCard(**fields | changes)


def build(
    store: BentoStore,
    scorer: Scorer,
    export_to: Path | UPath,
    fallback: Scorer = FALLBACK,
    **card: Any,
) -> BuiltBento:
    return store.build(
        scorer=scorer,
        fallback=fallback,
        card=model_card(**card),
        contract=CONTRACT,
        labels={"contract": "telecom 1.0.0", "run_id": "0f3a"},
        export_to=export_to,
    )


def customers(n: int) -> list[dict[str, Any]]:
    """Customers over the whole range of the contract, with nulls and unknown categories."""
    rng = np.random.default_rng(7)

    def value(name: str) -> Any:
        column = CONTRACT[name]
        if column.nullable and rng.random() < 0.3:
            return None
        if column.kind == "category":
            return str(rng.choice(column.values or ["Berlin", "Paris", "Atlantis", "Ώ ß"]))
        drawn = rng.uniform(column.ge or 0.0, column.le or 1.0)
        return int(drawn) if column.whole else drawn

    names = [column.name for column in CONTRACT.features]
    return [{"customer_id": f"C-{i}", **{name: value(name) for name in names}} for i in range(n)]

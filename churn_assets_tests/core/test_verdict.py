"""A check with nothing to judge is neither passed nor failed, and says what is missing."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from churn_assets.contracts.loading import load_contract
from churn_assets.core.data import quality
from churn_assets.core.data.splitting import SPLIT
from churn_assets.core.evaluation.evaluation import (
    EvaluationReport,
    auc_above_floor,
    evaluate,
    no_weak_slice,
    well_calibrated,
)
from churn_assets.core.evaluation.metrics import Interval
from churn_assets.core.governance import audit
from churn_assets.core.limits import Limits
from churn_assets.core.monitoring.drift import DriftReport, compare_month
from churn_assets.core.scoring.completeness import Completeness, predictions_complete
from churn_assets.core.scoring.scores import prediction_drift, score_distribution_as_tested
from churn_assets.core.scoring.skew import Skew, serving_matches_training
from churn_assets.core.scoring.traffic import predictions_readable
from churn_assets.core.verdict import Verdict, not_judged
from churn_assets_tests.core.typed_rows import TEXT, typed_rows, with_labels

CONTRACT, LIMITS = load_contract("telecom"), Limits()
ROWS = typed_rows(CONTRACT, 200).assign(
    customer_id=pd.Series([f"c{i}" for i in range(200)], dtype=TEXT),
    month=pd.Series(["2026-03"] * 200, dtype=TEXT),
    churned=pd.array(np.arange(200) < 60, dtype="boolean"),
    **{SPLIT: "training"},
)
NO_ROWS = ROWS.head(0)
IDS, NO_IDS = ROWS["customer_id"], NO_ROWS["customer_id"]
NOT_NULLABLE = CONTRACT.model_copy(
    update={"columns": tuple(c.model_copy(update={"nullable": False}) for c in CONTRACT.columns)}
)
NO_LINES = pd.DataFrame({"line": [], "reason": []})
NO_PREDICTIONS = Completeness(logged=0, lost=0, gaps=pd.DataFrame())
NOTHING = np.empty(0)
ONE_CLASS = ROWS.assign(churned=pd.array([False] * 200, dtype="boolean"))
NOT_COMPARED = Skew(
    key_known=True, rows=0, compared=0, differing=0, by_column={}, samples=pd.DataFrame()
)

Judge = Callable[[], Verdict]


def evaluated(rows: int = 400, **undefined: Interval) -> EvaluationReport:
    frame, hazard = with_labels(typed_rows(CONTRACT, rows), CONTRACT, "avg_monthly_charges")
    report = evaluate(frame, hazard, np.full(rows, 0.2), CONTRACT, LIMITS, resamples=20)
    return report.model_copy(update={"metrics": report.metrics | undefined})


def drift(month: pd.DataFrame = ROWS) -> DriftReport:
    return compare_month(ROWS, month, CONTRACT, LIMITS, name="2026-04")


UNDEFINED = Interval(value=None, low=None, high=None)
NOTHING_TO_JUDGE: dict[str, Judge] = {
    "the first month": lambda: quality.row_count_as_usual(5, {}, LIMITS),
    "no labels": lambda: quality.every_id_known(NO_IDS, IDS, LIMITS),
    "no accepted rows": lambda: quality.features_honour_schema(
        NO_ROWS[[*CONTRACT.model_inputs, "customer_id", "month"]], CONTRACT
    ),
    "no months": lambda: quality.months_honour_contract(NO_ROWS, CONTRACT),
    "no rows with nulls": lambda: quality.nulls_within_limit(NO_ROWS, CONTRACT, LIMITS),
    "no nullable feature": lambda: quality.nulls_within_limit(ROWS, NOT_NULLABLE, LIMITS),
    "no customers": lambda: quality.no_id_on_two_sides(NO_ROWS, CONTRACT),
    "no rows to rank": lambda: quality.no_feature_knows_the_label(NO_ROWS, CONTRACT, LIMITS),
    "one class": lambda: quality.no_feature_knows_the_label(ONE_CLASS, CONTRACT, LIMITS),
    "no scored rows": lambda: quality.scorer_equals_pipeline(NOTHING, NOTHING),
    "no answers": lambda: quality.answers_as_the_model(NOTHING, NOTHING),
    "no fitted rows": lambda: quality.reproducible(NOTHING, NOTHING),
    "no calibration error": lambda: well_calibrated(evaluated(calibration_error=UNDEFINED)),
    "too small slices": lambda: no_weak_slice(evaluated(rows=20)),
    "no slices": lambda: no_weak_slice(evaluated().model_copy(update={"slices": ()})),
    "an empty month": lambda: drift(NO_ROWS).verdicts["no_feature_drift"],
    "no scores": lambda: drift().verdicts["no_prediction_drift"],
    "no scores of the month": lambda: score_distribution_as_tested(
        prediction_drift([], [0.1]), LIMITS
    ),
    "no traffic": lambda: drift().verdicts["served_traffic_as_training"],
    "no labels of scored months": lambda: drift().verdicts["performance_holds"],
    "no compared predictions": lambda: serving_matches_training(NOT_COMPARED, LIMITS),
    "no lines": lambda: predictions_readable(0, NO_LINES, LIMITS),
    "no numbered predictions": lambda: predictions_complete(NO_PREDICTIONS, LIMITS),
    "an empty audit log": lambda: audit.verify([]),
}
"""Every check that may have nothing to judge, on such an input."""

DEMANDS: dict[str, Judge] = {
    "rows": lambda: quality.rows_present(0, "2026-04"),
    "known labels": lambda: quality.label_rate_within_bounds(NO_ROWS["churned"], LIMITS),
    "rows to train on": lambda: quality.enough_rows_of_both_classes(NO_ROWS, CONTRACT, LIMITS),
    "a proven ranking": lambda: auc_above_floor(evaluated(roc_auc=UNDEFINED)),
}
"""Checks that demand something, on inputs that lack it."""


@pytest.mark.parametrize("name", NOTHING_TO_JUDGE)
def test_a_check_with_nothing_to_judge_says_so_and_what_it_needs(name: str) -> None:
    verdict = NOTHING_TO_JUDGE[name]()
    assert (verdict.outcome, verdict.judged) == ("not judged", False)
    assert verdict.description.startswith("Not judged: ")
    needs = ("need", "is no month yet", "nothing could be compared", "not judged.")
    assert any(text in verdict.description for text in needs), verdict.description


@pytest.mark.parametrize("name", DEMANDS)
def test_a_check_that_demands_something_fails_where_it_is_missing(name: str) -> None:
    assert DEMANDS[name]().outcome == "failed"


def test_the_least_that_can_be_judged_is_judged() -> None:
    one = ROWS.head(1)
    for verdict in (
        quality.row_count_as_usual(5, {"2026-03": 5}, LIMITS),
        quality.every_id_known(IDS.head(1), IDS, LIMITS),
        quality.months_honour_contract(one, CONTRACT),
        quality.nulls_within_limit(one, CONTRACT, LIMITS),
        quality.no_id_on_two_sides(one, CONTRACT),
        quality.scorer_equals_pipeline(np.ones(1), np.ones(1)),
        quality.reproducible(np.ones(1), np.ones(1)),
        predictions_readable(1, NO_LINES, LIMITS),
        score_distribution_as_tested(prediction_drift([0.1], [0.1]), LIMITS),
    ):
        assert verdict.judged, verdict.description


def test_a_verdict_has_one_of_three_outcomes() -> None:
    verdicts = (Verdict(True, ""), Verdict(False, ""), not_judged("a row is needed."))
    assert [one.outcome for one in verdicts] == ["passed", "failed", "not judged"]
    assert not_judged("", {"limit": 2}).numbers == {"limit": 2}

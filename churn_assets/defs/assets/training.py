"""Third stage: the training set and the model."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.adapters.records import ModelRecord
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import typed
from churn_assets.core.data import quality
from churn_assets.core.data.periods import (
    TrainingPeriods,
    choose_periods,
    training_periods_complete,
)
from churn_assets.core.data.splitting import (
    CALIBRATION,
    TEST,
    TRAINING,
    rows_of_split,
    training_rows,
)
from churn_assets.core.evaluation.evaluation import months_of
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.verdict import Verdict
from churn_assets.defs.assets import retraining
from churn_assets.defs.assets.current_model import past_its_promise
from churn_assets.defs.assets.retraining import CURRENT
from churn_assets.defs.gates.approval import GatedConfig, may_override
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import (
    overridden,
    refusal,
    require_open,
    require_periods_open,
    shut_periods,
)
from churn_assets.defs.platform.metadata import column_schema, table
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking
from churn_assets.defs.platform.steps import step

if TYPE_CHECKING:
    from churn_assets.core.modelling.training import TrainedModel

ROWS, MODEL = "training_set", "churn_model"
INPUTS = ("validated_features", "churn_labels")

ROWS_CHECKS = [
    check(ROWS, "months_honour_contract", "Every month was validated under the current contract.",
          blocking=True),
    check(ROWS, "enough_rows_of_both_classes", "Both classes have enough rows to train on.",
          blocking=True),
    check(ROWS, "no_id_on_two_sides", "No customer is in two splits.", blocking=True),
    check(ROWS, "no_feature_knows_the_label", "No feature or pair gives the label away."),
    check(ROWS, "training_periods_complete", "No period of the training window is left out."),
]  # fmt: skip
MODEL_CHECKS = [
    check(MODEL, "scorer_equals_pipeline",
          "Both compiled scorers return their pipelines' probabilities.", blocking=True),
    check(MODEL, "reproducible", "A second fit gives the same model, bit for bit."),
]  # fmt: skip


class TrainingConfig(GatedConfig):
    """Run config of `churn_model`; a field that is not set has the platform's default."""

    training_set_version: int | None = None
    """Version of the table `training_set` to train on again; the newest where it is not set."""


def definitions(platform: Platform) -> dg.Definitions:
    """`training_set` and `churn_model`, with their checks."""
    return dg.Definitions(assets=[_training_set(platform), _churn_model(platform)])


def _training_set(platform: Platform) -> dg.AssetsDefinition:
    contract, settings = platform.contract, platform.settings

    @dg.asset(
        name=ROWS,
        deps=INPUTS,
        check_specs=ROWS_CHECKS,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="typed_tables",
        group_name="model",
        owners=[OWNER],
        kinds={"deltalake", "pandas"},
        code_version=platform.code_version(1),
        metadata=column_schema(
            contract,
            (*contract.snapshot, contract.label),
            derived=True,
            platform=("month", "split"),
        ),
        description=(
            "One row is one customer at the close of one labelled month, with its label and its "
            "split. A month with a failed blocking check is left out. A model is trained on one "
            "version of the table; every version is kept."
        ),
    )
    @step
    def training_set(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        lake: dg.ResourceParam[Lake],
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        require_open(context, config, audit)
        periods = _periods(context, config, audit, platform, lake)
        features, labels = (
            typed(lake.read(name, periods.used), platform.contract) for name in INPUTS
        )
        rows = training_rows(features, labels, contract)
        rows.attrs[PROVENANCE] = features.attrs[PROVENANCE] | labels.attrs[PROVENANCE]
        verdicts = {
            "months_honour_contract": quality.months_honour_contract(features, contract),
            "enough_rows_of_both_classes": quality.enough_rows_of_both_classes(
                rows, contract, settings.limits
            ),
            "no_id_on_two_sides": quality.no_id_on_two_sides(rows, contract),
            "no_feature_knows_the_label": quality.no_feature_knows_the_label(
                rows, contract, settings.limits
            ),
            "training_periods_complete": training_periods_complete(periods),
        }
        shown: dict[str, dg.MetadataValue | str] = {
            "rows_by_month": table(quality.rows_by_month(rows, contract)),
            "periods_left_out": ", ".join(periods.left_out) or "none",
        }
        if all_passed(verdicts, ROWS_CHECKS):
            yield dg.Output(rows, metadata=shown)
        yield from results(ROWS, verdicts, warn=["training_periods_complete"], metadata=shown)

    return training_set


def _churn_model(platform: Platform) -> dg.AssetsDefinition:
    contract, settings = platform.contract, platform.settings
    code_version = platform.code_version(3)

    @dg.asset(
        name=MODEL,
        deps=[ROWS, retraining.REASONS],
        check_specs=MODEL_CHECKS,
        retry_policy=platform.retries,
        io_manager_key="documents",
        group_name="model",
        owners=[OWNER],
        kinds={"scikitlearn", "mlflow"},
        code_version=code_version,
        description=(
            "The fitted and calibrated model with its compiled scorer, a logistic regression of "
            "the same training as the fallback scorer, and their MLflow run. The model is "
            "registered as a version with the alias `challenger`."
        ),
    )
    @step
    def churn_model(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[ModelRecord]]:
        from churn_assets.adapters.registry import register_model

        require_open(context, config, audit)
        reasons = retraining.reasons_of_run(context)
        rows = typed(lake.read(ROWS, version=config.training_set_version), contract)
        version, months = rows.attrs[PROVENANCE][ROWS], months_of(rows)
        require_periods_open(context, config, audit, ROWS, months)
        mlflow.connect()
        if not reasons and (asked := past_its_promise(context, platform, lake, rows, code_version)):
            if not asked.reason:
                yield dg.Output(asked.model, metadata=_metadata(asked.model) | {CURRENT: asked.why})
                yield from results(MODEL, asked.verdicts(MODEL_CHECKS))
                return
            reasons = retraining.tagged(context, asked.reason)
        with mlflow.run(context):
            trained, scorer, fallback, verdicts = _trained(rows, contract, settings.seed)
            if not all_passed(verdicts, MODEL_CHECKS):
                yield from results(MODEL, verdicts)
                raise dg.Failure(
                    description=verdicts["scorer_equals_pipeline"].description, allow_retries=False
                )
            record = register_model(
                trained, scorer, fallback, rows_of_split(rows, TRAINING).head(100), contract,
                name=platform.model_name, seed=settings.seed, months=months,
                table_versions={ROWS: version, **lake.sources(ROWS, version)},
                lake_root=lake.root, code_version=code_version, reasons=reasons,
            )  # fmt: skip
        yield dg.Output(record, metadata=_metadata(record))
        yield from results(MODEL, verdicts)

    return churn_model


def _trained(
    rows: pd.DataFrame, contract: Contract, seed: int
) -> tuple["TrainedModel", Scorer, Scorer, dict[str, Verdict]]:
    """Returns the model, its scorer, the fallback scorer, and the verdicts of the checks."""
    from churn_assets.core.modelling.training import train

    training, calibration, test = (
        rows_of_split(rows, split) for split in (TRAINING, CALIBRATION, TEST)
    )
    trained = train(training, calibration, contract, seed=seed)
    scorer, fallback, equal = _compiled(trained, test, contract)
    reproducible = _reproducible(trained, training, calibration, test, contract)
    verdicts = {"scorer_equals_pipeline": equal, "reproducible": reproducible}
    return trained, scorer, fallback, verdicts


def _compiled(
    trained: "TrainedModel", test: pd.DataFrame, contract: Contract
) -> tuple[Scorer, Scorer, Verdict]:
    """Compiles the model and the fallback, and checks that the scorers equal the pipelines."""
    from churn_assets.core.data.features import model_columns
    from churn_assets.core.modelling.compiling import compile_scorer
    from churn_assets.core.modelling.training import probabilities

    estimators = (trained.estimator, trained.simple)
    scorer, fallback = (compile_scorer(estimator, contract) for estimator in estimators)
    columns = model_columns(test, contract)
    verdict = quality.scorer_equals_pipeline(
        np.column_stack([compiled.score(columns) for compiled in (scorer, fallback)]),
        np.column_stack([probabilities(estimator, test, contract) for estimator in estimators]),
    )
    return scorer, fallback, verdict


def _reproducible(
    trained: "TrainedModel",
    training: pd.DataFrame,
    calibration: pd.DataFrame,
    test: pd.DataFrame,
    contract: Contract,
) -> Verdict:
    from churn_assets.core.modelling.training import probabilities, refit

    refitted = refit(trained, training, calibration, contract)
    return quality.reproducible(
        *(probabilities(fit, test, contract) for fit in (trained.estimator, refitted))
    )


def _periods(
    context: dg.AssetExecutionContext,
    config: GatedConfig,
    audit: AuditLog,
    platform: Platform,
    lake: Lake,
) -> TrainingPeriods:
    """Returns the latest labelled months that are in the lake and whose gate is open.

    With an override, the gates of the months in the lake do not count.

    Raises:
        GateError: The gates of all months are shut.
        Failure: No month has both features and labels.
    """
    known = platform.labelled_months.get_partition_keys()
    published = {name: lake.months(name) for name in INPUTS}
    shut = shut_periods(context, ROWS, known)
    reasons = {month: [str(check) for check in checks] for month, checks in shut.items()}
    if may_override(context, config):
        stored = set(known).intersection(*published.values())
        reasons = {month: why for month, why in reasons.items() if month not in stored}
    periods = choose_periods(known, published, reasons, platform.settings.training_months)
    failed = [check for month in shut for check in shut[month]]
    if not periods.used and failed:
        # An override opens gates; it publishes no rows.
        stored = set(known).intersection(*published.values())
        raise refusal(context, failed, overridable=bool(stored))
    if not periods.used:
        raise dg.Failure(
            description=(
                "no month has both validated_features and churn_labels: materialise them for at "
                "least one labelled month"
            ),
            allow_retries=False,
        )
    if used := [check for check in failed if check.partition in periods.used]:
        overridden(context, config, audit, used)
    return periods


def _metadata(record: ModelRecord) -> dict[str, dg.MetadataValue | str]:
    scores = [{"candidate": name, **numbers} for name, numbers in record.cross_validation.items()]
    return {
        "model_version": f"{record.name}:{record.version}",
        "mlflow_run_id": record.run_id,
        "chosen": record.chosen,
        "recipe": record.recipe,
        "months": ", ".join(record.months),
        "reasons": "\n".join(record.reasons) or "materialised by hand",
        "table_versions": dg.MetadataValue.json(record.table_versions),
        "cross_validation": table(pd.DataFrame(scores)),
    }

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
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.faults import stops_at_data_fault
from churn_assets.defs.platform.metadata import column_schema, table
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking

if TYPE_CHECKING:
    from churn_assets.core.modelling.training import TrainedModel

ROWS, MODEL = "training_set", "churn_model"

ROWS_CHECKS = [
    check(ROWS, "months_honour_contract", "Every month was validated under the current contract.",
          blocking=True),
    check(ROWS, "enough_rows_of_both_classes", "Both classes have enough rows to train on.",
          blocking=True),
    check(ROWS, "no_id_on_two_sides", "No customer is in two splits.", blocking=True),
    check(ROWS, "no_feature_knows_the_label", "No single feature gives the label away."),
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
        deps=["validated_features", "churn_labels"],
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
            "split. A model is trained on one version of the table; every version is kept."
        ),
    )
    @stops_at_data_fault
    def training_set(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        lake: dg.ResourceParam[Lake],
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[pd.DataFrame]]:
        require_open(context, config, audit)
        features, labels = _labelled(platform, lake)
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
        }
        by_month = table(quality.rows_by_month(rows, contract))
        if all_passed(verdicts, ROWS_CHECKS):
            yield dg.Output(rows, metadata={"rows_by_month": by_month})
        yield from results(ROWS, verdicts, metadata={"rows_by_month": by_month})

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
    @stops_at_data_fault
    def churn_model(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[ModelRecord]]:
        from churn_assets.adapters.registry import register_model
        from churn_assets.core.modelling.training import train

        require_open(context, config, audit)
        reasons = retraining.reasons_of_run(context)
        rows = typed(lake.read(ROWS, version=config.training_set_version), contract)
        version = rows.attrs[PROVENANCE][ROWS]
        training, calibration = rows_of_split(rows, TRAINING), rows_of_split(rows, CALIBRATION)
        test = rows_of_split(rows, TEST)
        with mlflow.run(context):
            trained = train(training, calibration, contract, seed=settings.seed)
            scorer, fallback, equal = _compiled(trained, test, contract)
            reproducible = _reproducible(trained, training, calibration, test, contract)
            verdicts = {"scorer_equals_pipeline": equal, "reproducible": reproducible}
            if not all_passed(verdicts, MODEL_CHECKS):
                yield from results(MODEL, verdicts)
                raise dg.Failure(description=equal.description, allow_retries=False)
            record = register_model(
                trained, scorer, fallback, training.head(100), contract,
                name=platform.model_name, seed=settings.seed, months=months_of(rows),
                table_versions={ROWS: version, **lake.sources(ROWS, version)},
                lake_root=lake.root, code_version=code_version, reasons=reasons,
            )  # fmt: skip
        yield dg.Output(record, metadata=_metadata(record))
        yield from results(MODEL, verdicts)

    return churn_model


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


def _labelled(platform: Platform, lake: Lake) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns features and labels of the latest labelled months that are in the lake.

    Raises:
        Failure: No month has both.
    """
    known = set(platform.labelled_months.get_partition_keys())
    both = known.intersection(lake.months("validated_features"), lake.months("churn_labels"))
    months = sorted(both)[-platform.settings.training_months :]
    if not months:
        raise dg.Failure(
            description=(
                "no month has both validated_features and churn_labels: materialise them for at "
                "least one labelled month"
            ),
            allow_retries=False,
        )
    features, labels = (lake.read(name, months) for name in ("validated_features", "churn_labels"))
    return typed(features, platform.contract), typed(labels, platform.contract)


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

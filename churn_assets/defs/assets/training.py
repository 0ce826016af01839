"""Third stage: the rows to learn from, and the model."""

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
from churn_assets.core.data.splitting import CALIBRATION, TEST, TRAINING, of_split, training_rows
from churn_assets.core.evaluation.evaluation import months_of
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.verdict import Verdict
from churn_assets.defs.assets import retraining
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets.defs.gates.gates import GatedConfig, require_open
from churn_assets.defs.platform.metadata import column_schema, table
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking

if TYPE_CHECKING:
    from churn_assets.core.modelling.training import TrainedModel

ROWS, MODEL = "training_set", "churn_model"


class TrainingConfig(GatedConfig):
    """How to train; what is not set is the platform's default."""

    training_set_version: int | None = None
    """Version of the table `training_set` to train on again; the newest where it is not set."""


def definitions(platform: Platform) -> dg.Definitions:
    """`training_set` and `churn_model`, with their checks."""
    return dg.Definitions(assets=[_training_set(platform), _churn_model(platform)])


def _training_set(platform: Platform) -> dg.AssetsDefinition:
    contract, settings = platform.contract, platform.settings
    specs = [
        check(
            ROWS,
            "months_honour_contract",
            "Every month was validated under the present contract.",
            blocking=True,
        ),
        check(ROWS, "enough_rows_of_both_classes", "There is enough to learn from.", blocking=True),
        check(ROWS, "no_id_on_two_sides", "No customer is on two sides.", blocking=True),
        check(ROWS, "no_feature_knows_the_label", "No single feature gives the label away."),
    ]

    @dg.asset(
        name=ROWS,
        deps=["validated_features", "churn_labels"],
        check_specs=specs,
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
            "side of the split. A model is made from one version of the table; all are kept."
        ),
    )
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
        if all_passed(verdicts, specs):
            yield dg.Output(rows, metadata={"rows_by_month": by_month})
        yield from results(ROWS, verdicts, metadata={"rows_by_month": by_month})

    return training_set


def _churn_model(platform: Platform) -> dg.AssetsDefinition:
    contract, settings = platform.contract, platform.settings
    code_version = platform.code_version(3)
    specs = [
        check(MODEL, "scorer_equals_pipeline",
              "Both compiled scorers give their pipelines' probabilities.", blocking=True),
        check(MODEL, "reproducible", "Fitted again, the model is the same, bit for bit."),
    ]  # fmt: skip

    @dg.asset(
        name=MODEL,
        deps=[ROWS, retraining.REASONS],
        check_specs=specs,
        retry_policy=platform.retries,
        io_manager_key="documents",
        group_name="model",
        owners=[OWNER],
        kinds={"scikitlearn", "mlflow"},
        code_version=code_version,
        description=(
            "The fitted and calibrated model, its compiled scorer, that of the logistic regression "
            "of the same training to fall back on, and the MLflow run that made them: a registered "
            "version with the alias `challenger`."
        ),
    )
    def churn_model(
        context: dg.AssetExecutionContext,
        config: TrainingConfig,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[ModelRecord]]:
        from churn_assets.adapters.registry import register_model
        from churn_assets.core.modelling.training import probabilities, refit, train

        require_open(context, config, audit)
        reasons = retraining.reasons_of_run(context)
        rows = typed(lake.read(ROWS, version=config.training_set_version), contract)
        version = rows.attrs[PROVENANCE][ROWS]
        training, calibration = of_split(rows, TRAINING), of_split(rows, CALIBRATION)
        test = of_split(rows, TEST)
        with mlflow.run(context):
            trained = train(training, calibration, contract, seed=settings.seed)
            scorer, fallback, same = _compiled(trained, test, contract)
            again = refit(trained, training, calibration, contract)
            verdicts = {
                "scorer_equals_pipeline": same,
                "reproducible": quality.reproducible(
                    *(probabilities(one, test, contract) for one in (trained.estimator, again))
                ),
            }
            if not all_passed(verdicts, specs):
                yield from results(MODEL, verdicts)
                raise dg.Failure(
                    description=verdicts["scorer_equals_pipeline"].description, allow_retries=False
                )
            record = register_model(
                trained,
                scorer,
                fallback,
                training.head(100),
                contract,
                name=platform.model_name,
                seed=settings.seed,
                table_versions={ROWS: version, **lake.sources(ROWS, version)},
                lake_root=lake.root,
                months=months_of(rows),
                code_version=code_version,
                reasons=reasons,
            )
        yield dg.Output(record, metadata=_shown(record))
        yield from results(MODEL, verdicts)

    return churn_model


def _compiled(
    trained: "TrainedModel", test: pd.DataFrame, contract: Contract
) -> tuple[Scorer, Scorer, Verdict]:
    """The model and the simple one as scorers, and whether they are what was trained."""
    from churn_assets.core.data.features import model_columns
    from churn_assets.core.modelling.compiling import compile_scorer
    from churn_assets.core.modelling.training import probabilities

    estimators = (trained.estimator, trained.simple)
    scorer, fallback = (compile_scorer(one, contract) for one in estimators)
    columns = model_columns(test, contract)
    verdict = quality.scorer_equals_pipeline(
        np.column_stack([one.score(columns) for one in (scorer, fallback)]),
        np.column_stack([probabilities(one, test, contract) for one in estimators]),
    )
    return scorer, fallback, verdict


def _labelled(platform: Platform, lake: Lake) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features and labels of the latest labelled months that are in the lake.

    Raises:
        Failure: there is no month that has both.
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


def _shown(record: ModelRecord) -> dict[str, dg.MetadataValue | str]:
    scores = [{"candidate": name, **numbers} for name, numbers in record.cross_validation.items()]
    return {
        "model_version": f"{record.name}:{record.version}",
        "mlflow_run_id": record.run_id,
        "chosen": record.chosen,
        "recipe": record.recipe,
        "months": ", ".join(record.months),
        "reasons": "\n".join(record.reasons) or "somebody asked for it",
        "table_versions": dg.MetadataValue.json(record.table_versions),
        "cross_validation": table(pd.DataFrame(scores)),
    }

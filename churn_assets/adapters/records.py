"""Records of models, champions and bentos, for traceability."""

from datetime import datetime
from typing import Literal

from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.contract import Contract, Frozen
from churn_assets.core.evaluation.card import estimates, score_distribution
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.evaluation.metrics import Floats
from churn_assets.core.governance.promotion import Comparison, PolicyName


class ModelRecord(Frozen):
    """Record of a registered model version, with everything needed to trace its origin.

    Attributes:
        name: Registered model in MLflow.
        version: Registered version.
        run_id: MLflow run of the training.
        table_versions: Versions of the lake's tables that the model was trained on.
        recipe: Fingerprint of code, contract, candidates, search space and seed; not of the data.
        months: Labelled months of the training set, in order.
        trained_at: Time of the training, in UTC.
        reasons: Reasons for the training; empty where a person started it without one.
    """

    name: str
    version: str
    run_id: str
    chosen: str
    contract_name: str
    contract_version: str
    seed: int
    table_versions: dict[str, int]
    cross_validation: dict[str, dict[str, float]]
    recipe: str
    months: tuple[str, ...]
    trained_at: datetime
    reasons: tuple[str, ...] = ()


class PromotedModel(Frozen):
    """The champion and the decision that made it the champion.

    Attributes:
        model: Current champion.
        previous: Previous champion, which a rollback restores.
        action: Last action; `kept` where the challenger was the champion already.
        policy: Policy that decided a promotion; null for a rollback.
        comparison: Comparison of the challenger with the champion of that time, if there was one.
        approved_by: A person, or `policy` where no person decided.
        dagster_run_id: Dagster run that decided.
        audit_hash: Hash of the decision's entry in the audit log.
    """

    model: ModelRecord
    previous: ModelRecord | None
    action: Literal["promotion", "rollback", "kept"]
    policy: PolicyName | None
    comparison: Comparison | None
    approved_by: str
    reason: str
    decided_at: datetime
    dagster_run_id: str
    audit_hash: str


class BentoRecord(Frozen):
    """Record of a bento.

    Attributes:
        tag: Name:version in the bento store.
        archive: Path of the `.bento` file.
        size_bytes: Size of the archive.
    """

    tag: str
    model_tag: str
    archive: str
    size_bytes: int
    model: ModelRecord


def model_card(
    model: ModelRecord,
    report: EvaluationReport,
    contract: Contract,
    probabilities: Floats,
    *,
    dagster_run_id: str,
    built_at: datetime,
) -> ModelCard:
    """Returns the card of an evaluated model, which becomes part of the bento.

    Args:
        report: Evaluation of `model`.
        contract: Contract of the bento.
        probabilities: The model's probabilities for the rows of the report, (n,).
        dagster_run_id: Dagster run that builds the bento; empty where there is none.
        built_at: Time of the build, with a time zone.
    """
    return ModelCard(
        name=model.name,
        version=model.version,
        chosen=model.chosen,
        contract_name=contract.name,
        contract_version=contract.version,
        contract_fingerprint=contract.fingerprint,
        threshold=report.profit.threshold,
        built_at=built_at,
        mlflow_run_id=model.run_id,
        dagster_run_id=dagster_run_id,
        table_versions=model.table_versions,
        test_months=report.months,
        test_rows=report.rows,
        metrics=estimates(report.metrics),
        scores=score_distribution(probabilities),
    )

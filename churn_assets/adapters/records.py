"""What is kept on record of the things that were made, so that each can be traced back."""

from datetime import datetime
from typing import Literal

from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.contract import Contract, Frozen
from churn_assets.core.evaluation.card import estimates, score_distribution
from churn_assets.core.evaluation.evaluation import EvaluationReport
from churn_assets.core.evaluation.metrics import Floats
from churn_assets.core.governance.promotion import Comparison


class ModelRecord(Frozen):
    """What is on record of a registered model version: enough to find everything it came from.

    Attributes:
        name: registered model in MLflow.
        version: its registered version.
        run_id: the MLflow run that made it.
        table_versions: versions of the lake's tables that it was trained on.
        recipe: fingerprint of how it was made: code, contract, candidates, search space, seed;
            not of the data.
        months: the labelled months of its training set, in order.
        trained_at: in UTC.
        reasons: why it was trained; none where somebody just did.
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
    """The champion, and how it came to be that.

    Attributes:
        model: the champion now.
        previous: the one before, to which a rollback goes.
        action: what was done last; `kept` where the challenger was the champion already.
        policy: by which a promotion was decided; null for a rollback.
        comparison: of the challenger with the champion of then, where there was one.
        approved_by: a person, or `policy` where nobody was asked.
        dagster_run_id: the run that decided.
        audit_hash: hash of the decision's entry in the audit log.
    """

    model: ModelRecord
    previous: ModelRecord | None
    action: Literal["promotion", "rollback", "kept"]
    policy: Literal["first", "superior", "fresh"] | None
    comparison: Comparison | None
    approved_by: str
    reason: str
    decided_at: datetime
    dagster_run_id: str
    audit_hash: str


class BentoRecord(Frozen):
    """What is on record of a bento.

    Attributes:
        tag: name:version in the bento store.
        archive: path of the `.bento` file.
        size_bytes: of the archive.
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
    """The card of an evaluated model, which goes with it into the bento.

    Args:
        report: on `model`.
        contract: that the bento is built for.
        probabilities: of the model, for the rows of the report, (n,).
        dagster_run_id: the run that builds the bento; empty where there is none.
        built_at: with a time zone.
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

"""Sixth stage: the bento, which packages the champion for serving."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import BentoRecord, ModelRecord, PromotedModel, model_card
from churn_assets.adapters.serving import predictions, serving
from churn_assets.adapters.training_rows import training_set_of
from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.contract import Contract
from churn_assets.core.data.features import model_columns, requests
from churn_assets.core.data.quality import answers_as_the_model
from churn_assets.core.data.splitting import TEST, rows_of_split
from churn_assets.defs.gates.approval import GatedConfig
from churn_assets.defs.gates.checks import check, results
from churn_assets.defs.gates.gates import require_open
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking
from churn_assets.defs.platform.steps import step

BENTO = "churn_bento"
REQUESTED_ROWS = 200
SHOWN_METRICS = ("roc_auc", "log_loss", "accuracy")

CHECKS = [
    check(BENTO, "bento_answers_as_the_model",
          "The bento, served over HTTP, returns the scorer's probabilities.", blocking=True),
]  # fmt: skip


def definitions(platform: Platform) -> dg.Definitions:
    """`churn_bento`, with its checks."""
    contract = platform.contract

    @dg.asset(
        name=BENTO,
        check_specs=CHECKS,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="documents",
        group_name="serving",
        owners=[OWNER],
        kinds={"bentoml"},
        code_version=platform.code_version(3),
        description=(
            "The bento with the service, the contract, the champion's scorer and the fallback "
            "scorer, in the bento store and as a `.bento` archive."
        ),
    )
    @step
    def churn_bento(
        context: dg.AssetExecutionContext,
        config: GatedConfig,
        promoted_model: PromotedModel,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        audit: dg.ResourceParam[AuditLog],
        bentos: dg.ResourceParam[BentoStore],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[BentoRecord]]:
        from churn_assets.adapters.registry import load_fallback, load_report, load_scorer

        require_open(context, config, audit)
        champion = promoted_model.model
        mlflow.connect()
        scorer = load_scorer(champion)
        test = rows_of_split(training_set_of(champion, lake, contract), TEST)
        probabilities = scorer.score(model_columns(test, contract))
        run_id = context.run.run_id
        report, fallback = load_report(champion), load_fallback(champion)
        card = model_card(
            champion, report, contract, probabilities,
            dagster_run_id=run_id, built_at=datetime.now(UTC),
        )  # fmt: skip
        with bentos.staged(
            scorer=scorer, fallback=fallback, card=card, contract=contract,
            labels=_labels(champion, contract, run_id), export_to=platform.archives,
        ) as staged:  # fmt: skip
            with serving(str(staged.built.archive), bentos.home) as url:
                served = predictions(url, requests(test.head(REQUESTED_ROWS), contract))
            verdict = answers_as_the_model(served, probabilities[:REQUESTED_ROWS])
            built = staged.publish() if verdict.outcome == "passed" else None
        if built:
            yield _published(built, champion, card, bentos)
        yield from results(BENTO, {"bento_answers_as_the_model": verdict})

    return dg.Definitions(assets=[churn_bento])


def _labels(model: ModelRecord, contract: Contract, dagster_run_id: str) -> dict[str, str]:
    return {
        "dagster_run": dagster_run_id,
        "mlflow_run": model.run_id,
        "contract": f"{contract.name}-{contract.version}",
    }


def _published(
    built: BuiltBento, model: ModelRecord, card: ModelCard, bentos: BentoStore
) -> dg.Output[BentoRecord]:
    record = BentoRecord(
        tag=built.tag,
        model_tag=built.model_tag,
        archive=str(built.archive),
        size_bytes=built.size_bytes,
        model=model,
    )
    return dg.Output(
        record,
        metadata={
            "tag": built.tag,
            "archive": dg.MetadataValue.path(str(built.archive)),
            "archive_sha256": built.archive_sha256,
            "bytes": built.size_bytes,
            "mlflow_run_id": card.mlflow_run_id,
            "table_versions": dg.MetadataValue.json(card.table_versions),
            "threshold": card.threshold,
            "test_rows": card.test_rows,
            **{f"test_{name}": card.metrics[name].value for name in SHOWN_METRICS},
            "serve": f"BENTOML_HOME={bentos.home} bentoml serve {built.tag}",
        },
    )

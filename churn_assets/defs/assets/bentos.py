"""Sixth stage: the bento, which takes the model to where it is asked."""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from churn_assets.adapters.audit import AuditLog
from churn_assets.adapters.bentos import BentoStore, BuiltBento
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import BentoRecord, ModelRecord, PromotedModel, model_card
from churn_assets.adapters.serving import predictions, serving
from churn_assets.contracts.card import ModelCard
from churn_assets.contracts.schemas import typed
from churn_assets.core.data.features import model_columns, requests
from churn_assets.core.data.quality import answers_as_the_model
from churn_assets.core.data.splitting import TEST, of_split
from churn_assets.defs.gates.checks import check, results
from churn_assets.defs.gates.gates import GatedConfig, require_open
from churn_assets.defs.platform.platform import OWNER, Platform
from churn_assets.defs.platform.resources import MLflowTracking

BENTO = "churn_bento"
ASKED_ROWS = 200
SHOWN_METRICS = ("roc_auc", "log_loss", "accuracy")

CHECKS = [
    check(BENTO, "bento_answers_as_the_model",
          "Served for real, the bento gives the scorer's probabilities.", blocking=True),
]  # fmt: skip


def definitions(platform: Platform) -> dg.Definitions:
    """`churn_bento`, with its checks."""
    contract = platform.contract

    @dg.asset(
        name=BENTO,
        ins={"promoted_model": dg.AssetIn("promoted_model")},
        check_specs=CHECKS,
        retry_policy=platform.retries,
        output_required=False,
        io_manager_key="documents",
        group_name="serving",
        owners=[OWNER],
        kinds={"bentoml"},
        code_version=platform.code_version(3),
        description=(
            "The service, the contract, the scorer of the champion and the one to fall back on, "
            "in the bento store and as a `.bento` archive."
        ),
    )
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
        version = champion.table_versions["training_set"]
        training_set = typed(lake.read("training_set", version=version), contract)
        test = of_split(training_set, TEST)
        probabilities = scorer.score(model_columns(test, contract))
        card = model_card(
            champion,
            load_report(champion),
            contract,
            probabilities,
            dagster_run_id=context.run.run_id,
            built_at=datetime.now(UTC),
        )
        with bentos.staged(
            scorer=scorer,
            fallback=load_fallback(champion),
            card=card,
            contract=contract,
            labels={
                "dagster_run": context.run.run_id,
                "mlflow_run": champion.run_id,
                "contract": f"{contract.name}-{contract.version}",
            },
            export_to=platform.home / "archives",
        ) as staged:
            with serving(str(staged.built.archive), bentos.home) as url:
                answers = predictions(url, requests(test.head(ASKED_ROWS), contract))
            verdict = answers_as_the_model(answers, probabilities[:ASKED_ROWS])
            built = staged.publish() if verdict.passed else None
        if built:
            yield _published(built, champion, card, bentos)
        yield from results(BENTO, {"bento_answers_as_the_model": verdict})

    return dg.Definitions(assets=[churn_bento])


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
            "bytes": built.size_bytes,
            "mlflow_run_id": card.mlflow_run_id,
            "table_versions": dg.MetadataValue.json(card.table_versions),
            "threshold": card.threshold,
            "test_rows": card.test_rows,
            **{f"test_{name}": card.metrics[name].value for name in SHOWN_METRICS},
            "serve": f"BENTOML_HOME={bentos.home} bentoml serve {built.tag}",
        },
    )

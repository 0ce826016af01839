"""Sixth stage: the bento, which takes the model to where it is asked."""

from collections.abc import Iterator

import dagster as dg

from churn_assets.adapters.bentos import BentoStore
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import BentoRecord, ModelRecord
from churn_assets.adapters.serving import predictions, serving
from churn_assets.contracts.schemas import typed
from churn_assets.core.features import model_columns, requests
from churn_assets.core.quality import answers_as_the_model
from churn_assets.core.splitting import TEST, of_split
from churn_assets.defs import evaluation
from churn_assets.defs.checks import check, require_passed, results
from churn_assets.defs.platform import OWNER, Platform
from churn_assets.defs.resources import MLflowTracking

BENTO = "churn_bento"
ASKED_ROWS = 200

CHECKS = [
    check(BENTO, "bento_answers_as_the_model",
          "Served for real, the bento gives the scorer's probabilities.", blocking=True),
]  # fmt: skip


def definitions(platform: Platform) -> dg.Definitions:
    """`churn_bento`, with its checks."""
    contract = platform.contract

    @dg.asset(
        name=BENTO,
        ins={"churn_model": dg.AssetIn("churn_model")},
        deps=[evaluation.REPORT],
        check_specs=CHECKS,
        io_manager_key="documents",
        group_name="serving",
        owners=[OWNER],
        kinds={"bentoml"},
        code_version="1",
        description=(
            "The service, the contract and the compiled scorer of one model version, in the bento "
            "store and as a `.bento` archive. Built only behind the checks of `evaluation_report`."
        ),
    )
    def churn_bento(
        context: dg.AssetExecutionContext,
        churn_model: ModelRecord,
        lake: dg.ResourceParam[Lake],
        mlflow: MLflowTracking,
        bentos: dg.ResourceParam[BentoStore],
    ) -> Iterator[dg.AssetCheckResult | dg.Output[BentoRecord]]:
        from churn_assets.adapters.registry import load_scorer

        require_passed(context.instance, evaluation.CHECKS)
        mlflow.connect()
        scorer = load_scorer(churn_model)
        built = bentos.build(
            scorer=scorer,
            contract=contract,
            name=churn_model.name,
            version=churn_model.version,
            labels={
                "dagster_run": context.run.run_id,
                "mlflow_run": churn_model.run_id,
                "contract": f"{contract.name}-{contract.version}",
            },
            export_to=platform.home / "archives",
        )
        version = churn_model.table_versions["training_set"]
        training_set = typed(lake.read("training_set", version=version), contract)
        asked = of_split(training_set, TEST).head(ASKED_ROWS)
        with serving(str(built.archive), bentos.home) as url:
            answers = predictions(url, requests(asked, contract))
        expected = scorer.score(model_columns(asked, contract))
        verdict = answers_as_the_model(answers, expected)
        record = BentoRecord(
            tag=built.tag,
            model_tag=built.model_tag,
            archive=str(built.archive),
            size_bytes=built.size_bytes,
            model=churn_model,
        )
        yield dg.Output(
            record,
            metadata={
                "tag": built.tag,
                "archive": dg.MetadataValue.path(str(built.archive)),
                "bytes": built.size_bytes,
                "serve": f"BENTOML_HOME={bentos.home} bentoml serve {built.tag}",
            },
        )
        yield from results(BENTO, {"bento_answers_as_the_model": verdict})

    return dg.Definitions(assets=[churn_bento])

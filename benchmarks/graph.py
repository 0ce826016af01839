"""Cost of Dagster: `make demo` compared with a script that does the same work without it.

    python -m benchmarks.graph

Both simulate an operator, prepare six months, train, register, evaluate, compare a month, build
the bento and send requests to it; both check what the graph checks. The script keeps its tables in
memory once they are written, and keeps no record of runs and checks. Each run is a process of its
own that starts with an empty home; graph and script take turns.
"""

import logging
import os
import resource
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import mlflow
import numpy as np
import pandas as pd
from pydantic import BaseModel

from benchmarks.table import Line, show
from churn_assets.adapters.bentos import BentoStore
from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord, model_card
from churn_assets.adapters.registry import log_to_run, register_model
from churn_assets.adapters.reports.html import render_drift, render_evaluation
from churn_assets.adapters.reports.plots import drift_plots, evaluation_plots
from churn_assets.adapters.serving import predictions, serving
from churn_assets.adapters.sources.choice import choose_source
from churn_assets.adapters.sources.source import Source
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.loading import load_contract
from churn_assets.contracts.schemas import feature_schema, label_schema, raw_schema
from churn_assets.core.data import quality
from churn_assets.core.data.features import model_columns, requests
from churn_assets.core.data.leaks import associations
from churn_assets.core.data.splitting import (
    CALIBRATION,
    TEST,
    TRAINING,
    rows_of_split,
    training_rows,
)
from churn_assets.core.data.validation import validate
from churn_assets.core.evaluation.evaluation import About, EvaluationReport, evaluate, months_of
from churn_assets.core.modelling.baseline import fit_baseline
from churn_assets.core.modelling.compiling import compile_scorer
from churn_assets.core.modelling.scorer import Scorer
from churn_assets.core.modelling.training import probabilities, refit, train
from churn_assets.core.monitoring.drift import compare_month
from churn_assets.core.verdict import Verdict
from churn_assets.settings import Settings, load_settings

CUSTOMERS, MONTHS = 20_000, 6
REQUEST_ROWS = 200
NAME = "churn_telecom"
REPEATS = 3
GRAPH = [sys.executable, "-m", "churn_assets.demo"]
SCRIPT = [sys.executable, "-m", "benchmarks.graph", "script"]

MOST_TIMES_THE_SCRIPT = 1.3


def main() -> None:
    graph, plain = [], []
    for _ in range(REPEATS):
        graph.append(seconds(GRAPH))
        plain.append(seconds(SCRIPT))
        print(f"graph {graph[-1][0]:.1f} s, script {plain[-1][0]:.1f} s", flush=True)
    own, peer = (statistics.median(taken for taken, _ in runs) for runs in (graph, plain))
    own_cpu, peer_cpu = (statistics.median(cpu for _, cpu in runs) for runs in (graph, plain))
    aim, passed = f"<= {MOST_TIMES_THE_SCRIPT}", own <= MOST_TIMES_THE_SCRIPT * peer
    show(
        [
            Line("the whole graph, beside a script", own, "s", peer, own / peer, aim, passed),
            Line("processor time of all its processes", own_cpu, "s", peer_cpu, own_cpu / peer_cpu),
        ]
    )


def seconds(command: list[str]) -> tuple[float, float]:
    """Runs a command in an empty home; returns its wall-clock and processor time in seconds."""
    prefixes = ("CHURN_", "DAGSTER_", "MLFLOW_", "BENTOML_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    # Python keeps compiled modules, as on a user's machine.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    with TemporaryDirectory() as home:
        variables = kept | {
            "CHURN_HOME": home,
            "CHURN_SIMULATED__CUSTOMERS": str(CUSTOMERS),
            "DAGSTER_HOME": home,
            "PYTHONWARNINGS": "ignore",
        }
        Path(home, "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
        began, used = perf_counter(), processor_time()
        done = subprocess.run(  # noqa: S603  # its own commands, no shell
            command, env=variables, check=False, capture_output=True, text=True
        )
        taken = perf_counter() - began, processor_time() - used
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return taken


def processor_time() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def script() -> None:
    """Does the work of the graph, from top to bottom."""
    settings = load_settings()
    assert settings.home is not None
    contract = load_contract(settings.contract)
    source, lake = choose_source(settings, contract), Lake(str(settings.home / "lake"))
    last = pd.Period(datetime.now(UTC).strftime("%Y-%m"), freq="M") - 1
    months = [str(month) for month in pd.period_range(end=last, periods=MONTHS, freq="M")]
    labelled = len(months) - contract.horizon_months
    tables = {month: prepared(month, source, lake, contract, settings) for month in months}
    features = [table for _, table in tables.values()]
    labels = [
        known_labels(month, tables[month][0], source, lake, contract, settings)
        for month in months[:labelled]
    ]
    rows = training_rows(pd.concat(features[:labelled]), pd.concat(labels), contract)
    version = lake.write("training_set", rows).version
    require(
        quality.enough_rows_of_both_classes(rows, contract, settings.limits),
        quality.no_id_on_two_sides(rows, contract),
        quality.no_feature_knows_the_label(rows, contract, settings.limits),
    )
    scorer, fallback, record = trained(rows, version, contract, settings)
    report = evaluated(rows, scorer, record, contract, settings)
    log_to_run(record, {}, {"evaluation_report.json": report.model_dump_json()})
    served(rows, scorer, fallback, record, report, contract, settings.home)
    drift = compare_month(rows, features[-1], contract, settings.limits, name=months[-1])
    save(
        report,
        render_evaluation(report, evaluation_plots(report)),
        settings.home / "evaluation_report",
    )
    save(drift, render_drift(drift, drift_plots(drift)), settings.home / "drift_report")


def prepared(
    month: str, source: Source, lake: Lake, contract: Contract, settings: Settings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The raw rows of a month and its features."""
    raw = raw_schema(contract).validate(source.snapshot(month))
    lake.write("raw_customers", raw.assign(month=month), month)
    validation = validate(raw, contract, month)
    features: pd.DataFrame = feature_schema(contract).validate(validation.accepted)
    lake.write("quarantined_customers", validation.quarantined, month)
    lake.write("validated_features", features, month)
    require(
        quality.rows_present(len(raw), month),
        quality.quarantined_share_within_limit(validation, settings.limits),
        quality.nulls_within_limit(features, contract, settings.limits),
    )
    return raw, features


def known_labels(
    month: str,
    raw: pd.DataFrame,
    source: Source,
    lake: Lake,
    contract: Contract,
    settings: Settings,
) -> pd.DataFrame:
    labels: pd.DataFrame = label_schema(contract).validate(source.labels(month))
    lake.write("churn_labels", labels, month)
    ids = contract.id.name
    require(
        quality.label_rate_within_bounds(labels[contract.label.name], settings.limits),
        quality.every_id_known(labels[ids], raw[ids], settings.limits),
    )
    return labels


def trained(
    rows: pd.DataFrame, version: int, contract: Contract, settings: Settings
) -> tuple[Scorer, Scorer, ModelRecord]:
    training, calibration, test = (
        rows_of_split(rows, split) for split in (TRAINING, CALIBRATION, TEST)
    )
    assert settings.home is not None
    logging.getLogger("alembic").setLevel(logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{settings.home / 'mlflow.db'}")
    mlflow.create_experiment(NAME, artifact_location=(settings.home / "artifacts").as_uri())
    mlflow.set_experiment(NAME)
    with mlflow.start_run():
        model = train(training, calibration, contract, seed=settings.seed)
        estimators = (model.estimator, model.simple)
        scorer, fallback = (compile_scorer(one, contract) for one in estimators)
        record = register_model(
            model, scorer, fallback, training.head(100), contract, name=NAME, seed=settings.seed,
            table_versions={"training_set": version}, lake_root=str(settings.home / "lake"),
            months=months_of(rows), code_version="script",
        )  # fmt: skip
    columns = model_columns(test, contract)
    expected = np.column_stack([probabilities(one, test, contract) for one in estimators])
    again = probabilities(refit(model, training, calibration, contract), test, contract)
    require(
        quality.scorer_equals_pipeline(
            np.column_stack([one.score(columns) for one in (scorer, fallback)]), expected
        ),
        quality.reproducible(expected[:, 0], again),
    )
    return scorer, fallback, record


def evaluated(
    rows: pd.DataFrame, scorer: Scorer, record: ModelRecord, contract: Contract, settings: Settings
) -> EvaluationReport:
    test = rows_of_split(rows, TEST)
    baseline = fit_baseline(rows_of_split(rows, TRAINING), contract)
    return evaluate(
        test, scorer.score(model_columns(test, contract)), baseline.predict(test), contract,
        settings.limits, resamples=settings.bootstrap_resamples, seed=settings.seed,
        associations=associations(rows, contract, settings.limits),
        about=About(
            model_version=record.version, mlflow_run_id=record.run_id,
            table_versions=record.table_versions, baseline_feature=baseline.feature,
        ),
    )  # fmt: skip


def served(
    rows: pd.DataFrame,
    scorer: Scorer,
    fallback: Scorer,
    record: ModelRecord,
    report: EvaluationReport,
    contract: Contract,
    home: Path,
) -> None:
    bentos, test = BentoStore(home=home / "bentoml"), rows_of_split(rows, TEST)
    expected = scorer.score(model_columns(test, contract))
    card = model_card(
        record, report, contract, expected, dagster_run_id="", built_at=datetime.now(UTC)
    )
    built = bentos.build(
        scorer=scorer, fallback=fallback, card=card, contract=contract,
        labels={"mlflow_run": record.run_id}, export_to=home / "archives",
    )  # fmt: skip
    with serving(str(built.archive), bentos.home) as url:
        answers = predictions(url, requests(test.head(REQUEST_ROWS), contract))
    require(quality.answers_as_the_model(answers, expected[:REQUEST_ROWS]))


def save(report: BaseModel, page: str, path: Path) -> None:
    path.with_suffix(".json").write_text(report.model_dump_json(indent=1), encoding="utf-8")
    path.with_suffix(".html").write_text(page, encoding="utf-8")


def require(*verdicts: Verdict) -> None:
    for verdict in verdicts:
        if verdict.outcome != "passed":
            raise ValueError(verdict.description)


if __name__ == "__main__":
    script() if sys.argv[1:] == ["script"] else main()

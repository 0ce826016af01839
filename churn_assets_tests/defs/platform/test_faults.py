"""Which errors of a step are retried, and which message of a chain of errors people see."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import TracebackException

import dagster as dg
import pandas as pd
import pytest
from dagster_shared.error import SerializableErrorInfo
from pandera.errors import SchemaError

from churn_assets.adapters.audit import AuditError
from churn_assets.adapters.bentos import BentoError, BentoPartsError
from churn_assets.adapters.lake import LakeError
from churn_assets.adapters.prediction_logs import IncompleteLogError, PredictionLogError
from churn_assets.adapters.promotions import MovementError
from churn_assets.adapters.registry import RegistryError
from churn_assets.adapters.sources.source import (
    MissingColumnsError,
    SourceError,
    SourceUnavailableError,
)
from churn_assets.contracts.loading import ContractError
from churn_assets.core.modelling.training import TrainingError
from churn_assets.core.settings_errors import SettingsError
from churn_assets.defs.gates.checks import GateError
from churn_assets.defs.platform.dagster_internals import DagsterAssetCheckFailedError
from churn_assets.defs.platform.faults import error_message, is_failed_check
from churn_assets.defs.platform.steps import step
from churn_assets_tests.defs.graph import CUSTOMERS, LABELS, MONTH, customers, from_files, from_rows
from churn_assets_tests.defs.run_results import error_of, materialised, retries

RETRIES = 2


class ResponseError(OSError, ValueError):
    """An HTTP library's error about a response that is no JSON."""


def message_of(error: Exception) -> str:
    stored = SerializableErrorInfo.from_traceback(TracebackException.from_exception(error))
    return error_message(stored)


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def run(error: Exception) -> dg.ExecuteInProcessResult:
    """Materialises an asset whose step raises an error."""

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=RETRIES), output_required=False)
    @step
    def failing(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
        yield from ()
        raise error

    return dg.materialize([failing], raise_on_error=False)


@pytest.mark.parametrize(
    "error",
    [
        SourceError("x"), MissingColumnsError("x"), ContractError("shop", ["x"]),
        SettingsError("x"), TrainingError("x"), LakeError("x"), AuditError("x"),
        BentoPartsError("x"), PredictionLogError("x"), ValueError("x"),
        SchemaError(None, pd.DataFrame(), "x"), GateError("x", allow_retries=False),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_fault_of_the_data_is_not_retried(error: Exception) -> None:
    result = run(error)
    assert not result.success
    assert retries(result) == 0
    assert error_message(result.failure_data_for_node("failing").error).endswith("x")


@pytest.mark.parametrize(
    "error",
    [
        SourceUnavailableError("x"), IncompleteLogError("x"), OSError("x"), ResponseError("x"),
        BentoError("x"), RegistryError("x"), MovementError("x"), RuntimeError("x"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_fault_of_an_external_system_is_retried(error: Exception) -> None:
    result = run(error)
    assert retries(result) == RETRIES
    assert error_message(result.failure_data_for_node("failing").error).endswith("x")


def test_every_step_of_the_graph_stops_at_a_fault_of_the_data(tmp_path: Path) -> None:
    code = step(lambda context: iter(())).__code__
    definitions = from_files(tmp_path, tmp_path / "customers.csv").definitions
    steps = [found for found in definitions.assets or () if isinstance(found, dg.AssetsDefinition)]
    steps = [found for found in steps if found.is_executable]
    assert len(steps) == 11
    for one in steps:
        function = one.op.compute_fn.decorated_fn  # type: ignore[union-attr]
        assert function.__code__ is code, one.op.name


def test_a_training_that_the_data_forbid_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: object, **__: object) -> None:
        raise TrainingError("at least 5 customers who left are needed, there are 2")

    monkeypatch.setattr("churn_assets.core.modelling.training.train", train)
    graph = from_rows(tmp_path, customers(300))
    assert graph.run(*CUSTOMERS, month=MONTH).success
    assert graph.run(*LABELS, month=MONTH).success
    result = graph.run("training_set", "churn_model")
    assert materialised(result) == {"training_set"}
    assert retries(result) == 0
    failure = result.failure_data_for_node("churn_model")
    assert error_message(failure.error) == ("at least 5 customers who left are needed, there are 2")


def test_a_missing_input_is_not_retried(tmp_path: Path) -> None:
    graph = from_files(tmp_path, tmp_path / "customers.csv")
    result = graph.run("served_traffic", month=MONTH)
    assert retries(result) == 0
    assert "table 'validated_features' is not in" in error_of(result, "served_traffic")
    message = error_message(result.failure_data_for_node("served_traffic").error)
    assert message.startswith("table 'validated_features' is not in")


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (lambda: SourceError("a.csv: line 3"), "a.csv: line 3"),
        (lambda: caused(SourceError("a.csv: line 3"), csv.Error("end of data")), "a.csv: line 3"),
        (lambda: caused(RuntimeError("max retries"), SourceError("a.csv")), "a.csv"),
        (lambda: caused(dg.Failure("set X"), caused(SourceError("a"), KeyError("b"))), "set X"),
        (lambda: caused(GateError("closed"), LakeError("no table")), "closed"),
        (lambda: caused(RuntimeError("step"), caused(OSError("open"), csv.Error("end"))),
         "_csv.Error: end"),
        (lambda: KeyError("age"), "KeyError: 'age'"),
        (lambda: SourceError("two\nlines: and more"), "two\nlines: and more"),
    ],
)  # fmt: skip
def test_the_outermost_error_of_the_platform_gives_the_message(
    chain: Callable[[], Exception], message: str
) -> None:
    assert message_of(chain()) == message


def test_a_failed_check_gives_its_name_and_no_text_of_a_library(tmp_path: Path) -> None:
    result = from_rows(tmp_path, customers(1)[:0]).run("raw_customers", month=MONTH)
    error = result.failure_data_for_node("raw_customers").error
    assert error is not None
    assert is_failed_check(error)
    expected = "Stopped by failed checks of raw_customers: rows_present"
    assert error_message(error) == expected


def test_all_failed_checks_are_named() -> None:
    error = DagsterAssetCheckFailedError(
        "3 blocking asset checks failed with ERROR severity:\na: one,two\nb: three"
    )
    assert message_of(error) == "Stopped by failed checks of a: one, two; b: three"


def test_without_an_error_the_message_says_so() -> None:
    assert error_message(None) == "The step failed without an error message."

from pathlib import Path

import dagster as dg
import pytest

from churn_assets.core.verdict import Verdict, not_judged
from churn_assets.defs.gates.checks import all_passed, check, results
from churn_assets_tests.defs.graph import CUSTOMERS, LABELS, MONTH, customers, from_rows

SPECS = [check("a", "gate", "Blocks.", blocking=True), check("a", "advice", "Does not.")]


def test_only_blocking_checks_decide_on_publishing() -> None:
    good, bad = Verdict(True, ""), Verdict(False, "")
    assert all_passed({"gate": good, "advice": bad}, SPECS)
    assert not all_passed({"gate": bad, "advice": good}, SPECS)


def test_what_a_blocking_check_did_not_judge_is_not_published() -> None:
    good, open_ = Verdict(True, ""), not_judged("nothing is there")
    assert all_passed({"gate": good, "advice": open_}, SPECS)
    assert not all_passed({"gate": open_, "advice": good}, SPECS)


@pytest.mark.parametrize("warns", [True, False])
def test_a_result_without_anything_to_judge_is_marked_and_no_failure(warns: bool) -> None:
    verdicts = {"gate": not_judged("nothing is there; a row is needed.", {"limit": 2})}
    [result] = results("a", verdicts, warn=["gate"] if warns else [], metadata={"more": 1})
    assert (result.passed, result.description) == (
        True, "Not judged: nothing is there; a row is needed.",
    )  # fmt: skip
    assert {key: value.value for key, value in result.metadata.items()} == {
        "limit": 2, "more": 1, "judged": False,
    }  # fmt: skip


def test_a_result_carries_the_verdicts_numbers_and_its_severity() -> None:
    verdicts = {
        "gate": Verdict(False, "why", {"value": 3, "limit": 2}),
        "advice": Verdict(True, ""),
    }
    gate, advice = results("a", verdicts, warn=["advice"], metadata={"more": 1})
    assert (gate.passed, gate.description, gate.severity) == (
        False, "why", dg.AssetCheckSeverity.ERROR,
    )  # fmt: skip
    assert {key: value.value for key, value in gate.metadata.items()} == {
        "value": 3, "limit": 2, "more": 1,
    }  # fmt: skip
    assert advice.severity == dg.AssetCheckSeverity.WARN


def test_a_result_refers_to_the_materialisation_of_its_run(tmp_path: Path) -> None:
    graph = from_rows(tmp_path, customers(300))
    for result in (
        graph.run(*CUSTOMERS, month=MONTH),
        graph.run(*LABELS, month=MONTH),
        graph.run("training_set"),
    ):
        assert result.success
        assert result.get_asset_check_evaluations()
        for evaluation in result.get_asset_check_evaluations():
            target = evaluation.target_materialization_data
            assert target is not None, evaluation.check_name
            assert target.run_id == result.run_id

"""Questions about the result of a run: assets, failed checks, errors, retries."""

import dagster as dg

from churn_assets.defs.automation import deadlines


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    """Names of the assets that a run materialised."""
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events()}


def failed_checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Checks that did not pass in a run, by name, without the one about months that are late.

    A test materialises a month or two of those whose deadlines have passed.
    """
    evaluations = result.get_asset_check_evaluations()
    return {
        e.check_name: e for e in evaluations if not e.passed and e.check_name != deadlines.CHECK
    }


def error_of(result: dg.ExecuteInProcessResult, step: str) -> str:
    """Message of a failed step's error, with the messages of its causes."""
    error, message = result.failure_data_for_node(step).error, ""
    while error is not None:
        message += error.message
        error = error.cause
    return message


def retries(result: dg.ExecuteInProcessResult) -> int:
    """Number of retries of all steps of a run."""
    restarted = dg.DagsterEventType.STEP_RESTARTED
    return sum(event.event_type == restarted for event in result.all_events)

"""The newest model, and what it has not learnt: asked where the model is past its promise.

The daemon requests `churn_model` for a reason to train again, or because the model is older than
its freshness policy promises. In the second case there may be nothing new to learn: then the model
stays, is evaluated again, and is said to be current.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from churn_assets.adapters.lake import Lake
from churn_assets.adapters.records import ModelRecord
from churn_assets.adapters.training_rows import training_set_of
from churn_assets.core.monitoring.incidents import duration
from churn_assets.core.monitoring.retraining import cooled_down
from churn_assets.core.verdict import Verdict, not_judged
from churn_assets.defs.assets import retraining
from churn_assets.defs.gates.approval import started_by_daemon
from churn_assets.defs.platform.platform import Platform


@dataclass(frozen=True)
class PastItsPromise:
    """A model that the daemon requests without a reason to train again.

    Attributes:
        model: Newest model.
        reason: Reason to train again, as text; "" where the model stays.
        why: Why the model stays.
    """

    model: ModelRecord
    reason: str = ""
    why: str = ""

    def verdicts(self, specs: Iterable[dg.AssetCheckSpec]) -> dict[str, Verdict]:
        """Returns verdicts of the model's checks, which judge a training and nothing else."""
        return {spec.name: not_judged(f"no model was trained: {self.why}") for spec in specs}


def past_its_promise(
    context: dg.AssetExecutionContext,
    platform: Platform,
    lake: Lake,
    rows: pd.DataFrame,
    code_version: str,
) -> PastItsPromise | None:
    """Returns the model that the daemon requested, for a step without a reason to train again.

    Args:
        rows: Newest rows of the training set, in the contract's types.
        code_version: Version of the code that trains.

    Returns:
        None where a person started the run, or no model was trained yet.
    """
    from churn_assets.adapters.registry import model_record, recipe

    trained = retraining.newest_model(context.instance)
    if trained is None or not started_by_daemon(context):
        return None
    contract, settings = platform.contract, platform.settings
    model = model_record(platform.model_name, trained.version)
    now = datetime.now(UTC)
    age = f"version {model.version} is {duration(now - trained.time)} old"
    changed = model.recipe != recipe(contract, settings.seed, code_version)
    news = "code, contract or settings that it was not made with" if changed else ""
    news = news or unlearnt(training_set_of(model, lake, contract), rows)
    if not news:
        return PastItsPromise(model, why=f"{age} and has learnt all labels and features there are.")
    if not cooled_down(trained, settings.retraining, now):
        days = f"{settings.retraining.cool_down_days:g}"
        return PastItsPromise(model, why=f"{age}, and is trained again after {days} days: {news}.")
    return PastItsPromise(model, reason=f"freshness: {age}; there is {news}")


def unlearnt(learnt: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Returns what is new in a training set, for people; "" where it holds the same rows.

    Args:
        learnt: Rows that a model was made from.
        rows: Newest rows.
    """
    if learnt.equals(rows):
        return ""
    months = sorted(set(rows["month"]) - set(learnt["month"]))
    if months:
        return f"the labelled month {', '.join(months)} that it has not learnt"
    return (
        f"a training set of {len(rows):,} rows, other ones than the {len(learnt):,} it has learnt"
    )

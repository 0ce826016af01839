"""Reasons to retrain a model."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from churn_assets.contracts.contract import Frozen
from churn_assets.core.policies import RetrainingPolicy

Kind = Literal["drift", "performance", "age"]


class Reason(Frozen):
    """One reason to retrain.

    Attributes:
        kind: Kind of problem.
        subject: Month that drifted or was predicted badly, or version that is too old. Each pair
            of kind and subject leads to one retraining at most.
        text: Explanation with the numbers, for people.
    """

    kind: Kind
    subject: str
    text: str

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.subject}"


class TrainedAt(Frozen):
    """The newest model: its version, and when it was trained."""

    version: str
    time: datetime


def reasons(
    model: TrainedAt,
    month: str,
    failed: Mapping[Kind, Iterable[str]],
    policy: RetrainingPolicy,
    now: datetime,
) -> tuple[Reason, ...]:
    """Returns all reasons to retrain, whether or not they already led to a training.

    Args:
        month: The latest month that was compared with training.
        failed: Messages of the failed checks of its drift report, by kind.
    """
    found = [
        Reason(kind=kind, subject=month, text="; ".join(messages))
        for kind, texts in failed.items()
        if (messages := list(texts))
    ]
    age = now - model.time
    if age > timedelta(days=policy.max_age_days):
        limit = f"{policy.max_age_days:g} are allowed"
        text = f"version {model.version} is {_days(age)} days old; {limit}"
        found.append(Reason(kind="age", subject=model.version, text=text))
    return tuple(found)


def cooled_down(model: TrainedAt, policy: RetrainingPolicy, now: datetime) -> bool:
    """Whether the cool-down since the last training is over."""
    return now - model.time >= timedelta(days=policy.cool_down_days)


def _days(age: timedelta) -> str:
    return f"{age / timedelta(days=1):.3g}"

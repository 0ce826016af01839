"""Why a model is trained again, if it is."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Literal

from churn_assets.contracts.contract import Frozen
from churn_assets.core.policies import RetrainingPolicy

Kind = Literal["drift", "performance", "age"]


class Reason(Frozen):
    """One reason to train again.

    Attributes:
        kind: what is wrong.
        subject: the month that drifted or was predicted badly, or the version that is too old. A
            reason of one kind and subject is answered once.
        text: the numbers behind it, for people.
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
    """Everything that speaks for another training, whether or not it was answered already.

    Args:
        month: the latest month that was compared with training.
        failed: what the failed checks of its drift report say, by kind.
    """
    found = [
        Reason(kind=kind, subject=month, text="; ".join(said))
        for kind, texts in failed.items()
        if (said := list(texts))
    ]
    age = now - model.time
    if age > timedelta(days=policy.max_age_days):
        limit = f"{policy.max_age_days:g} are allowed"
        text = f"version {model.version} is {_days(age)} days old; {limit}"
        found.append(Reason(kind="age", subject=model.version, text=text))
    return tuple(found)


def cooled_down(model: TrainedAt, policy: RetrainingPolicy, now: datetime) -> bool:
    """The last training is long enough ago for another."""
    return now - model.time >= timedelta(days=policy.cool_down_days)


def _days(age: timedelta) -> str:
    return f"{age / timedelta(days=1):.3g}"

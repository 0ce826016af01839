"""What the platform promises and when it acts of itself: every such number, in one place."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Policy(BaseModel):
    """Settings of one matter; frozen, and nothing is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FreshnessPolicy(Policy):
    """How fresh each asset is promised to be; each is overridden by CHURN_FRESHNESS__<NAME>.

    Deadlines are cron expressions in UTC. What is behind a deadline must have been made since the
    window before it began.
    """

    raw_deadline: str = "0 6 2 * *"
    """Customers and labels of a month: by the 2nd of the next one, 06:00."""
    raw_window_hours: float = Field(30, gt=0)
    """From the 1st, 00:00, on."""
    derived_deadline: str = "0 6 3 * *"
    """Features, training rows, scores and drift: within 24 hours of that."""
    derived_window_hours: float = Field(54, gt=0)
    model_fail_days: float = Field(30, gt=0)
    """A model, its report, its promotion and its bento may be so old."""
    model_warn_days: float = Field(7, gt=0)
    traffic_fail_hours: float = Field(30, gt=0)
    """The service's log is read once a day."""
    traffic_warn_hours: float = Field(25, gt=0)

    @model_validator(mode="after")
    def _warned_before_it_fails(self) -> Self:
        for name, unit in (("model", "days"), ("traffic", "hours")):
            warn, fail = (getattr(self, f"{name}_{kind}_{unit}") for kind in ("warn", "fail"))
            if warn > fail:
                raise ValueError(
                    f"CHURN_FRESHNESS__{name.upper()}_WARN_{unit.upper()} is {warn:g}, above "
                    f"CHURN_FRESHNESS__{name.upper()}_FAIL_{unit.upper()}, {fail:g}"
                )
        return self


class RetrainingPolicy(Policy):
    """When a model is trained again; each is overridden by CHURN_RETRAINING__<NAME>."""

    max_age_days: float = Field(28, gt=0)
    """A model that is older is trained again; before its freshness promise breaks."""
    cool_down_days: float = Field(7, ge=0)
    """Days since the last training before which no reason leads to another."""


class PromotionPolicy(Policy):
    """When a challenger becomes the champion; each is overridden by CHURN_PROMOTION__<NAME>."""

    approval: str = Field("auto", pattern="^(auto|manual)$")
    """`auto`: who earned it is promoted. `manual`: by a person, in a run of `promoted_model`."""
    resamples: int = Field(2_000, ge=100, le=100_000)
    auc_margin: float = Field(0.01, ge=0, le=0.5)
    """A challenger of the champion's recipe on newer data may be worse by less than this."""
    profit_margin: float = Field(0.05, ge=0)
    """The same for the expected profit of a customer, in costs of an offer."""


class AutomationPolicy(Policy):
    """How the daemon works; each is overridden by CHURN_AUTOMATION__<NAME>."""

    interval_seconds: int = Field(30, ge=1, le=3600)
    """Between two looks at sources, conditions, reasons to retrain and incidents."""
    traffic_cron: str = "0 5 * * *"
    """When the service's prediction log is read, in UTC."""

"""Policies of freshness, retraining, promotion and automation: all their numbers in one place."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Policy(BaseModel):
    """Base of a group of settings: frozen, and unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FreshnessPolicy(Policy):
    """Freshness policies of the assets; CHURN_FRESHNESS__<NAME> overrides each setting.

    Deadlines are cron expressions in UTC. By its deadline an asset must have been materialised
    within the window that ends at the deadline.
    """

    raw_deadline: str = "0 6 2 * *"
    """Deadline of a month's customers and labels: the 2nd of the next month, 06:00."""
    raw_window_hours: float = Field(30, gt=0)
    """The window begins on the 1st, 00:00."""
    derived_deadline: str = "0 6 3 * *"
    """Deadline of features, training rows, scores and drift: 24 hours after `raw_deadline`."""
    derived_window_hours: float = Field(54, gt=0)
    model_fail_days: float = Field(30, gt=0)
    """Maximum age of a model, its report, its promotion and its bento."""
    model_warn_days: float = Field(7, gt=0)
    traffic_fail_hours: float = Field(30, gt=0)
    """The service's log is read once a day."""
    traffic_warn_hours: float = Field(25, gt=0)

    @model_validator(mode="after")
    def _warns_before_it_fails(self) -> Self:
        for name, unit in (("model", "days"), ("traffic", "hours")):
            warn, fail = (getattr(self, f"{name}_{kind}_{unit}") for kind in ("warn", "fail"))
            if warn >= fail:
                raise ValueError(
                    f"CHURN_FRESHNESS__{name.upper()}_WARN_{unit.upper()} is {warn:g}, not below "
                    f"CHURN_FRESHNESS__{name.upper()}_FAIL_{unit.upper()}, {fail:g}"
                )
        return self


class RetrainingPolicy(Policy):
    """Conditions of retraining; CHURN_RETRAINING__<NAME> overrides each setting."""

    max_age_days: float = Field(28, gt=0)
    """An older model is trained again, before it breaks its freshness policy."""
    cool_down_days: float = Field(7, ge=0)
    """Days after a training during which no reason triggers another one."""


class PromotionPolicy(Policy):
    """Conditions of promotion to champion; CHURN_PROMOTION__<NAME> overrides each setting."""

    approval: str = Field("auto", pattern="^(auto|manual)$")
    """`auto`: a challenger that meets the conditions is promoted. `manual`: a person promotes it in
    a run of `promoted_model`."""
    resamples: int = Field(2_000, ge=100, le=100_000)
    auc_margin: float = Field(0.01, ge=0, le=0.5)
    """A challenger with the champion's recipe and newer data may be worse by less than this."""
    profit_margin: float = Field(0.05, ge=0)
    """The same margin for the expected profit of a customer, in multiples of an offer's cost."""
    first_profit: float = 0.0
    """Without a champion, a person must promote a challenger whose expected profit of 1,000
    customers, in the currency of the contract, is not above this; below 0 it is a loss that the
    policy accepts."""


class AutomationPolicy(Policy):
    """Schedules of the daemon; CHURN_AUTOMATION__<NAME> overrides each setting."""

    interval_seconds: int = Field(30, ge=1, le=3600)
    """Interval at which sources, conditions, reasons to retrain and incidents are evaluated."""
    traffic_cron: str = "0 5 * * *"
    """Cron expression, in UTC, at which the service's prediction log is read."""
    catch_up_cron: str = "0 6 * * *"
    """Cron expression, in UTC, at which an asset is requested that is missing, or older than its
    inputs, and whose last run did not fail: its event, or its run, was lost."""

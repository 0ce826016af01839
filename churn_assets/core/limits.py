"""Limits of the asset checks: every number that decides whether a check passes, in one place."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Limits(BaseModel):
    """Limits of the asset checks; CHURN_LIMITS__<NAME> overrides each of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Data
    max_quarantined_share: float = Field(0.10, ge=0, le=1)
    """Maximum share of a month's rows that may be quarantined."""
    min_rows_to_usual: float = Field(0.5, ge=0, le=1)
    """Minimum rows of a month, as a share of the median of the earlier months."""
    max_rows_to_usual: float = Field(2.0, ge=1)
    """Maximum rows of a month, as a multiple of the median of the earlier months."""
    max_null_share: float = Field(0.5, ge=0, le=1)
    """Maximum share of nulls in a nullable feature."""
    max_label_auc_of_one_feature: float = Field(0.99, ge=0.5, le=1)
    """A feature, or a pair, whose values have a higher out-of-fold ROC AUC counts as a leak."""
    max_identified_share: float = Field(0.25, ge=0, le=1)
    """A feature, or a pair, also counts as a leak if a larger share of the churned rows has values
    that identify them."""
    min_identifying_rate: float = Field(0.98, gt=0.5, le=1)
    """Values identify churned rows if at least this share of the rows with them churned."""
    min_leak_rows: int = Field(20, ge=1)
    """Leaks are judged if each class has this many rows, and so many churned rows must have values
    that identify them: fewer may be chance."""
    max_unknown_id_share: float = Field(0.01, ge=0, le=1)
    """Maximum share of a month's labels with ids that are not in its snapshot."""
    min_label_rate: float = Field(0.001, ge=0, le=1)
    max_label_rate: float = Field(0.6, ge=0, le=1)

    # Training
    min_labelled_rows: int = Field(200, ge=1)
    min_rows_of_each_class: int = Field(50, ge=1)
    min_training_customers_of_each_class: int = Field(5, ge=5)
    """Minimum customers of the training split who left, and who never left: one for each fold of
    the cross-validation. No limit may be below what the training needs."""
    min_calibration_customers_of_each_class: int = Field(5, ge=5)
    min_test_customers_of_each_class: int = Field(5, ge=2)
    """With five, fewer than 1% of the bootstrap's resamples lack a class."""

    # Evaluation
    min_auc: float = Field(0.65, ge=0.5, le=1)
    max_auc: float = Field(0.97, ge=0.5, le=1)
    """A model with a higher ROC AUC on the test rows may know the label."""
    max_auc_share_of_one_feature: float = Field(0.85, gt=0, le=1)
    """Where the ROC AUC is above `max_auc`, a person must promote the model if the out-of-fold ROC
    AUC of one feature or pair, less 0.5, is a larger share of the model's ROC AUC, less 0.5."""
    max_calibration_error: float = Field(0.05, ge=0, le=1)
    min_slice_auc: float = Field(0.55, ge=0, le=1)
    """A slice is weak if even the upper bound of its 95% interval is below this."""
    min_slice_rows_of_each_class: int = Field(20, ge=1)
    """Slices with fewer rows of a class are reported, not judged."""
    min_gain_over_baseline: float = 0.0
    """The lower 95% bound of the log loss saved against the simple baseline must be above this;
    below 0 it is a margin by which the model may be worse."""

    # Drift
    max_drift_p_value: float = Field(0.01, gt=0, lt=1)
    min_drift_effect: float = Field(0.10, gt=0, le=1)
    """A feature drifts if its corrected p-value is below `max_drift_p_value` and its effect is at
    least this."""
    max_null_share_rise: float = Field(0.05, gt=0, le=1)
    """Maximum change of a feature's share of nulls, in either direction."""
    max_unseen_share: float = Field(0.05, ge=0, le=1)
    """Maximum share of a month's rows whose category is not in the training data, and of the
    training rows whose category is not in the month."""
    max_vanished_remainder: float = Field(0.05, ge=0, lt=1)
    """A category also counts as not in a sample if its share there is at most this part of its
    share in the other sample."""
    max_spread_change: float = Field(0.5, gt=0, le=1)
    """Maximum change of a number's standard deviation in either direction, as a share of the
    larger one: 0.5 allows half and double."""
    min_spread_values: int = Field(20, ge=2)
    """A number with fewer known values, in the month or in training, has no spread to judge."""
    max_prediction_psi: float = Field(0.25, gt=0)
    """Population stability index of a month's scores against those of the test rows."""

    # Performance
    max_auc_drop: float = Field(0.05, ge=0, le=0.5)
    """Maximum drop of a month's realised ROC AUC below that of the test rows; a larger drop is
    allowed only if chance explains it."""
    min_realised_rows_of_each_class: int = Field(20, ge=1)
    """Months with fewer churned or fewer retained customers are reported, not judged."""

    # Served traffic
    min_served_rows: int = Field(200, ge=1)
    """Months with fewer predictions are reported, not judged."""
    max_served_differing_share: float = Field(0.0, ge=0, le=1)
    """Maximum share of predictions on known customers whose features differ from the graph's."""
    max_unreadable_share: float = Field(0.001, ge=0, le=1)
    """Maximum share of unreadable lines in the prediction log."""
    max_lost_share: float = Field(0.001, ge=0, le=1)
    """Maximum share of predictions that are missing in the prediction log."""

    @model_validator(mode="after")
    def _rates_in_order(self) -> Self:
        if self.min_label_rate > self.max_label_rate:
            raise ValueError(
                f"CHURN_LIMITS__MIN_LABEL_RATE is {self.min_label_rate:g}, above "
                f"CHURN_LIMITS__MAX_LABEL_RATE, {self.max_label_rate:g}"
            )
        return self

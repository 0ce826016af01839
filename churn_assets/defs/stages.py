"""Every stage of the graph, in the order in which data flows through it."""

from churn_assets.defs.alerting import alerts
from churn_assets.defs.assets import (
    bentos,
    deliveries,
    drift,
    evaluation,
    promotion,
    retraining,
    scores,
    sources,
    traffic,
    training,
    validation,
)
from churn_assets.defs.automation import deadlines, sensors

STAGES = (
    deliveries,
    sources,
    validation,
    retraining,
    training,
    evaluation,
    promotion,
    bentos,
    scores,
    traffic,
    drift,
    deadlines,
    sensors,
    alerts,
)

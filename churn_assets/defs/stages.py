"""Every stage of the graph, in the order in which data flows through it."""

from churn_assets.defs import (
    alerts,
    automation,
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
    automation,
    alerts,
)

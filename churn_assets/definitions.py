"""The code location: `dagster dev` starts here."""

import dagster as dg

from churn_assets.defs import bentos, drift, evaluation, sources, training, validation
from churn_assets.defs.platform import Platform
from churn_assets.defs.resources import resources
from churn_assets.settings import load_settings

STAGES = (sources, validation, training, evaluation, drift, bentos)


@dg.definitions
def defs() -> dg.Definitions:
    """The whole graph, for the settings of the environment."""
    return build(Platform.of(load_settings()))


def build(platform: Platform) -> dg.Definitions:
    """The whole graph for one platform."""
    return dg.Definitions.merge(
        *(stage.definitions(platform) for stage in STAGES),
        dg.Definitions(resources=resources(platform), executor=dg.in_process_executor),
    )

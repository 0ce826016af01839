"""The code location: `dagster dev` starts here."""

import dagster as dg

from churn_assets.defs.automation.conditions import automated
from churn_assets.defs.platform.platform import Platform
from churn_assets.defs.platform.resources import resources
from churn_assets.defs.stages import STAGES
from churn_assets.settings import load_settings


@dg.definitions
def defs() -> dg.Definitions:
    """The whole graph, for the settings of the environment."""
    return build(Platform.of(load_settings()))


def build(platform: Platform) -> dg.Definitions:
    """The whole graph for one platform."""
    made = dg.Definitions.merge(
        *(stage.definitions(platform) for stage in STAGES),
        dg.Definitions(resources=resources(platform), executor=dg.in_process_executor),
    )
    return automated(made, platform)

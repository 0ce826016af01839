"""Dagster code location, which `dagster dev` loads."""

import dagster as dg

from churn_assets.defs.automation.conditions import automated
from churn_assets.defs.platform.executors import executor
from churn_assets.defs.platform.platform import Platform
from churn_assets.defs.platform.resources import resources
from churn_assets.defs.stages import STAGES
from churn_assets.settings import load_settings


@dg.definitions
def defs() -> dg.Definitions:
    """Returns the definitions for the settings of the environment."""
    return build(Platform.of(load_settings()))


def build(platform: Platform) -> dg.Definitions:
    """Returns the definitions of the whole graph for one platform."""
    stages = dg.Definitions.merge(*(stage.definitions(platform) for stage in STAGES))
    runs = dg.Definitions(
        resources=resources(platform), executor=executor(platform.settings, stages)
    )
    return automated(dg.Definitions.merge(stages, runs), platform)

"""The executor of the graph's runs."""

import dagster as dg

from churn_assets.settings import Settings


def executor(settings: Settings, stages: dg.Definitions) -> dg.ExecutorDefinition:
    """Returns the executor that the settings choose.

    Args:
        stages: Definitions with all assets.

    Raises:
        SettingsError: The settings name a step that the graph does not have.
    """
    if settings.executor == "in_process":
        return dg.in_process_executor
    from churn_assets.defs.platform.kubernetes import step_executor  # takes a second to import

    assets = [one for one in stages.assets or () if isinstance(one, dg.AssetsDefinition)]
    return step_executor(settings, {asset.op.name for asset in assets if asset.is_executable})

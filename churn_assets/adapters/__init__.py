"""Access to external systems: sources, the lake, MLflow, bentos, reports. No Dagster."""

"""Side effects: sources, the lake, MLflow, bentos, reports. No Dagster."""

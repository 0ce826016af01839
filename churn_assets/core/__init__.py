"""Pure functions on frames and arrays. No I/O, no Dagster, no MLflow, no BentoML."""

"""Customer churn as a Dagster asset graph."""

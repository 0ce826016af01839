"""From Dagster's event log to alerts: observations, incidents, runbooks."""

"""Alerts from Dagster's event log: observations, incidents, runbooks."""

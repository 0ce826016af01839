"""Observability: metrics, request log and prediction log."""

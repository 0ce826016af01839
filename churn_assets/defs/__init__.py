"""Dagster only: the assets of each stage with their checks, and what they work with."""

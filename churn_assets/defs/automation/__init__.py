"""Automation of the assets: conditions, freshness policies, sensors."""

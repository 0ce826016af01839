"""Drift, realised performance, reasons to retrain, and incidents with their messages."""

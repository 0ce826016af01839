"""Drift, realised performance, reasons to train again, and incidents with their messages."""

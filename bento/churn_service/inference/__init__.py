"""Inference: request parsing, the served model and the predictor."""

"""Scores of the graph, predictions of the service, and training-serving skew."""

"""Scores of the graph, predictions of the service, and whether both agree."""

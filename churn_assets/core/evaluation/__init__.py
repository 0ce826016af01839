"""Model evaluation: metrics with intervals, curves, slices, and the evaluation report."""

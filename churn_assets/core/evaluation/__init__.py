"""How good a model is: metrics with intervals, curves, slices, the evaluation report."""

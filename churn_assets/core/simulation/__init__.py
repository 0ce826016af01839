"""A simulated operator, for the demo and the benchmarks."""

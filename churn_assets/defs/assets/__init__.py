"""Assets, one module per stage: the assets, their checks and their steps."""

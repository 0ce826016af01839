"""The assets, one file a stage: an asset, its checks, and how its step runs."""

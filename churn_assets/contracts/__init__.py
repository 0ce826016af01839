"""Data contracts: their vocabulary, their loading, and the shipped contracts."""

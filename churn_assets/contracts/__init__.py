"""The vocabulary of a data contract, and the contracts that ship."""

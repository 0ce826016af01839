"""Data preparation: parsing, validation, quality checks, features and splits."""

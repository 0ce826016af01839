"""Sources of customer data, and the choice of one by the settings."""

"""Access control: authentication, API keys and rate limits."""

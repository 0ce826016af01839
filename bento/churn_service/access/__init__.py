"""Which callers are served, and how often: authentication, API keys, rate limits."""

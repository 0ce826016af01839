"""The servers with which the service is compared, written as in their tutorials."""

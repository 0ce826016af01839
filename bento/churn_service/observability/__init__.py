"""What the service records: metrics, request log, prediction log."""

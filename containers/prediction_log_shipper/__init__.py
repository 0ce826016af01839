"""Sidecar of the service: brings the closed files of the prediction log to a store."""

"""Measurements on a Kubernetes cluster, see docs/deployment.md."""

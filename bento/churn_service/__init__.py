"""The parts of the churn service, which `service.py` in the same folder puts together."""

"""Candidate pipelines, their training, and the compiled scorer of the winner."""

"""Init container of the analysis: a sample of the predictions of a version's pods."""

"""Init container of the service: fetches the bento of a model."""

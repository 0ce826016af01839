"""Program of `make demo`."""

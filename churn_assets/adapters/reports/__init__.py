"""Reports as pages, plots and tables for people."""

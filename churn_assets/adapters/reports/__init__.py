"""Reports for people: HTML pages, plots and markdown tables."""

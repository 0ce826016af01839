"""From bytes to predictions: request parsing, the served model, the predictor."""

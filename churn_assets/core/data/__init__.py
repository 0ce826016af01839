"""From text as it was pulled to typed, validated rows, features, and the sides of a split."""

"""A run for a person to look at."""

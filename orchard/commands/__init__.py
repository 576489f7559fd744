"""A module for each noun that a command begins with."""

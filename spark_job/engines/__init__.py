"""Where the parts of a batch run."""

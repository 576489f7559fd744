"""The optional cluster for notebooks, a stack of its own."""

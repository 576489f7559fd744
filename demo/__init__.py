"""The demonstration: the job on this machine, on your images or on synthetic ones."""

"""A local EMR: its API, clusters whose nodes are folders, and a YARN on which steps run."""

"""EMR on EC2, and all that knows it: the cluster, its creation, its end, what failures say."""

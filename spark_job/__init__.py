"""Orchard's job: a batch of photographs in, MobileNetV2 features and their PCA vectors out."""

import os

__version__ = "0.1.0"

# Spark gives each process one core. More BLAS threads would fight with the tasks for theirs: on a
# busy machine the eigen-decomposition then takes ten times as long. numpy reads this when imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

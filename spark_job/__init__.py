"""Orchard's job: a batch of photographs in, MobileNetV2 features and their PCA vectors out."""

__version__ = "0.1.0"

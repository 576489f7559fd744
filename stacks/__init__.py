"""Orchard's infrastructure: one stack per dataset, composed of one construct per file."""

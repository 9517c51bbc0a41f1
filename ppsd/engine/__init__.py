"""Pipelines and their jobs: what is to be computed, in which order, and what comes of it."""

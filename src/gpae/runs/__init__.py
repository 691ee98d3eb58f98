"""Runs on disk: their directories, evaluations, versions and checkpoints."""

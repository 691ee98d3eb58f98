"""Learners, and the algorithms as data."""

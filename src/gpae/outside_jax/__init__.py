"""Environments outside JAX: an adapter, rows with automatic resets, worker processes.

Nothing in this room imports JAX: a worker process begins in a fraction of a second, and holds no more than it plays.
"""

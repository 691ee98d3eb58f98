"""Environments: the protocol, the adapters, the probes, and their names."""

from gpae.envs.base import Environment, EnvSpec, Outcome, Running, Scene, TimeoutIsTermination, View, advance, begin
from gpae.envs.registry import make, names, register

__all__ = [
    "EnvSpec",
    "Environment",
    "Outcome",
    "Running",
    "Scene",
    "TimeoutIsTermination",
    "View",
    "advance",
    "begin",
    "make",
    "names",
    "register",
]

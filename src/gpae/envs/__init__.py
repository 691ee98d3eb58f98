"""Environments: the protocol, the adapters, the probes, and their names."""

from gpae.envs.check import check
from gpae.envs.from_pettingzoo import pettingzoo_environment
from gpae.envs.protocol import Box, Discrete, Environment, EnvSpec, Outcome, Scene, TimeoutIsTermination
from gpae.envs.registry import make, names, register
from gpae.envs.vector import VectorState, advance, begin, observe
from gpae.types import View

__all__ = [
    "Box",
    "Discrete",
    "EnvSpec",
    "Environment",
    "Outcome",
    "Scene",
    "TimeoutIsTermination",
    "VectorState",
    "View",
    "advance",
    "begin",
    "check",
    "make",
    "names",
    "observe",
    "pettingzoo_environment",
    "register",
]

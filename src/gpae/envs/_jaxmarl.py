"""JaxMARL, imported without what it prints."""

from __future__ import annotations

from gpae.envs.muted import muted

with muted():
    from jaxmarl.environments.mpe import SimpleReferenceMPE, SimpleSpeakerListenerMPE, SimpleSpreadMPE, SimpleTagMPE
    from jaxmarl.environments.mpe.simple_facmac import SimpleFacmacMPE3a, SimpleFacmacMPE6a, SimpleFacmacMPE9a
    from jaxmarl.environments.smax import HeuristicEnemySMAX, Scenario
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

PREDATORS = {"3a": SimpleFacmacMPE3a, "6a": SimpleFacmacMPE6a, "9a": SimpleFacmacMPE9a}
"""FACMAC's predators and prey, by how many predators."""

__all__ = [
    "MAP_NAME_TO_SCENARIO",
    "PREDATORS",
    "HeuristicEnemySMAX",
    "Scenario",
    "SimpleReferenceMPE",
    "SimpleSpeakerListenerMPE",
    "SimpleSpreadMPE",
    "SimpleTagMPE",
]

"""JaxMARL, imported without what it prints."""

from __future__ import annotations

from gpae.envs.muted import muted

with muted():
    from jaxmarl.environments.mpe import SimpleReferenceMPE, SimpleSpeakerListenerMPE, SimpleSpreadMPE, SimpleTagMPE
    from jaxmarl.environments.smax import HeuristicEnemySMAX, Scenario
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

__all__ = [
    "MAP_NAME_TO_SCENARIO",
    "HeuristicEnemySMAX",
    "Scenario",
    "SimpleReferenceMPE",
    "SimpleSpeakerListenerMPE",
    "SimpleSpreadMPE",
    "SimpleTagMPE",
    "muted",
]

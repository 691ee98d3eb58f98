"""IQL: every agent learns for itself."""

from __future__ import annotations

from gpae.algorithms.base import Reward, algorithm
from gpae.algorithms.value_based import ValueBased
from gpae.networks import IdentityMixer
from gpae.settings import settings


@algorithm("iql", source="Tan 1993; recurrent, as the baseline of arXiv 1803.11485")
@settings
class IQL(ValueBased):
    """Q-learning by each agent for itself, with the team's reward or its own."""

    reward: Reward = "team"
    """What each agent learns from: the team's reward, or its individual one, where the environment has them."""

    @property
    def individual(self) -> bool:
        """Whether each agent learns from its own reward."""
        return self.reward == "individual"

    def mixer(self) -> IdentityMixer:
        """None: each agent's value has a target of its own."""
        return IdentityMixer()

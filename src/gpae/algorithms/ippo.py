"""IPPO: every agent by itself."""

from __future__ import annotations

from typing import ClassVar

from gpae.algorithms.base import Reward, algorithm
from gpae.algorithms.per_agent import PerAgent
from gpae.networks import CriticSizes, Shown
from gpae.settings import settings


@settings
class ObservationCriticSizes(CriticSizes):
    """Networks, actor and critic."""

    critic_identity: ClassVar[bool] = False  # type: ignore[misc]
    """The critic sees what the agent sees, and no index."""
    normalise_state: ClassVar[bool] = False  # type: ignore[misc]
    """It does not see the state."""


@algorithm("ippo", source="de Witt et al. 2020, arXiv 2011.09533")
@settings
class IPPO(PerAgent):
    """PPO for each agent by itself, its critic seeing what the agent sees."""

    reward: Reward = "team"
    """What each agent learns from: the team's reward, or its individual one, where the environment has them."""
    networks: ObservationCriticSizes = ObservationCriticSizes()

    shown: ClassVar[Shown] = "observation"

    @property
    def individual(self) -> bool:
        """Whether each agent learns from its own reward."""
        return self.reward == "individual"

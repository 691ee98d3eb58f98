"""GPAE with a critic of what each agent sees, as IPPO is to MAPPO; for `--import studies/seen_critic.py`."""

from __future__ import annotations

from typing import ClassVar

from gpae.algorithms.base import algorithm
from gpae.algorithms.gpae import GPAE
from gpae.algorithms.ippo import ObservationCriticSizes
from gpae.networks import Shown
from gpae.settings import settings


@algorithm("gpae-seen", source="this project")
@settings
class SeenGPAE(GPAE):
    """GPAE whose critic is EQ^i(tau^i, a^-i): it sees what the agent sees in the place of the state."""

    networks: ObservationCriticSizes = ObservationCriticSizes()

    shown: ClassVar[Shown] = "seen_and_joint_action"

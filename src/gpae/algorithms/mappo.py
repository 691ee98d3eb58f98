"""MAPPO: a critic of the state, with the agent's index or (one advantage for the whole team) without it."""

from __future__ import annotations

from typing import ClassVar, Literal

from gpae.algorithms.base import algorithm
from gpae.algorithms.per_agent import PerAgent
from gpae.networks import Shown
from gpae.settings import settings


@algorithm("mappo", source="Yu et al. 2022, arXiv 2103.01955; Espeholt et al. 2018, arXiv 1802.01561")
@settings
class MAPPO(PerAgent):
    """PPO with a centralised critic V(s); on a window, V-trace with the team's joint ratio."""

    trace: Literal["none", "it"] = "it"
    """Correction of the traces for old experience, by the team's joint ratio: none, or it, which truncates it at 1."""

    shown: ClassVar[Shown] = "state"
    joint_ratio: ClassVar[bool] = True

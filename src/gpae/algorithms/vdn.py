"""VDN: a sum of values."""

from __future__ import annotations

from gpae.algorithms.base import algorithm
from gpae.algorithms.value_based import ValueBased
from gpae.networks import SumMixer
from gpae.settings import settings


@algorithm("vdn", source="Sunehag et al. 2018, arXiv 1706.05296")
@settings
class VDN(ValueBased):
    """Q-learning of a team value that is the sum of the agents' values."""

    def mixer(self) -> SumMixer:
        """The sum."""
        return SumMixer()

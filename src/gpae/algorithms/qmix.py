"""QMIX: a monotone mixture of values."""

from __future__ import annotations

from gpae.algorithms.base import algorithm
from gpae.algorithms.value_based import ValueBased
from gpae.networks import MonotoneMixer
from gpae.settings import Size, settings


@algorithm("qmix", source="Rashid et al. 2018, arXiv 1803.11485")
@settings
class QMIX(ValueBased):
    """Q-learning of a team value that rises with every agent's value, by weights made from the state."""

    embedding_size: Size = 64
    """Width of the mixer's hidden layer."""
    hypernet_size: Size = 64
    """Width of the networks that make the mixer's weights from the state."""
    normalise_state: bool = False
    """Shift and scale the state that the mixer is shown, each number by its mean and standard deviation so far, and
    leave as it is what the agents see."""

    def mixer(self) -> MonotoneMixer:
        """A network of the values whose weights are not negative."""
        return MonotoneMixer(
            embedding_size=self.embedding_size,
            hypernet_size=self.hypernet_size,
            layer_norm=self.networks.layer_norm,
            normalise=self.normalise_state or self.networks.normalise_observations,
        )

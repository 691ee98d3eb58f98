"""Networks: recurrent actor and critics with parameters shared between agents, and the policies they make."""

from gpae.networks.actor import Actor, QNetwork
from gpae.networks.critic import Critic, CriticInput, CriticOutput, Shown
from gpae.networks.decomposed import DecomposedCritic, DecomposedOutput
from gpae.networks.distributions import Categorical, Distribution, of_taken
from gpae.networks.mixers import IdentityMixer, Mixer, MonotoneMixer, SumMixer
from gpae.networks.sizes import CriticSizes, NetworkSizes

__all__ = [
    "Actor",
    "Categorical",
    "Critic",
    "CriticInput",
    "CriticOutput",
    "CriticSizes",
    "DecomposedCritic",
    "DecomposedOutput",
    "Distribution",
    "IdentityMixer",
    "Mixer",
    "MonotoneMixer",
    "NetworkSizes",
    "QNetwork",
    "Shown",
    "SumMixer",
    "of_taken",
]

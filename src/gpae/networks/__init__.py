"""Networks: recurrent actor and critics with parameters shared between agents, and the masked categorical policy."""

from gpae.networks.actor import Actor
from gpae.networks.critics import CRITIC_INPUTS, Critic, CriticInputs, CriticOutputs
from gpae.networks.decomposed import DecomposedCritic, DecomposedOutputs
from gpae.networks.mixers import MIXERS, Mixer, make_mixer
from gpae.networks.utilities import QNetwork

__all__ = [
    "CRITIC_INPUTS",
    "MIXERS",
    "Actor",
    "Critic",
    "CriticInputs",
    "CriticOutputs",
    "DecomposedCritic",
    "DecomposedOutputs",
    "Mixer",
    "QNetwork",
    "make_mixer",
]

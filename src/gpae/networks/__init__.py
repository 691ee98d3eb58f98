"""Networks: recurrent actor and critics, shared between agents or not, and the policies they make."""

from gpae.networks.actor import Actor, ContinuousActor, QNetwork
from gpae.networks.critic import Critic, CriticInput, CriticOutput, Shown
from gpae.networks.decomposed import DecomposedCritic, DecomposedOutput
from gpae.networks.distributions import Categorical, DiagonalNormal, Distribution, of_taken
from gpae.networks.embeddings import RealActions
from gpae.networks.initial import lecun
from gpae.networks.mixers import IdentityMixer, Mixer, MonotoneMixer, SumMixer
from gpae.networks.normalisers import STATISTICS, InputNormaliser, ValueScale
from gpae.networks.sizes import ContinuousPolicy, CriticSizes, NetworkSizes, Sharing, ShownContinuousPolicy
from gpae.networks.unshared import UnsharedActor, UnsharedCritic, owners

__all__ = [
    "STATISTICS",
    "Actor",
    "Categorical",
    "ContinuousActor",
    "ContinuousPolicy",
    "Critic",
    "CriticInput",
    "CriticOutput",
    "CriticSizes",
    "DecomposedCritic",
    "DecomposedOutput",
    "DiagonalNormal",
    "Distribution",
    "IdentityMixer",
    "InputNormaliser",
    "Mixer",
    "MonotoneMixer",
    "NetworkSizes",
    "QNetwork",
    "RealActions",
    "Sharing",
    "Shown",
    "ShownContinuousPolicy",
    "SumMixer",
    "UnsharedActor",
    "UnsharedCritic",
    "ValueScale",
    "lecun",
    "of_taken",
    "owners",
]

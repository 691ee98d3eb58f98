"""The algorithms, as data: each is the shared learner with another critic and estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from gpae.algorithms.coma import ComaQ
from gpae.algorithms.dae import DAE
from gpae.algorithms.dop import DOP
from gpae.algorithms.method import Method
from gpae.algorithms.per_agent import PerAgent
from gpae.envs.base import EnvSpec
from gpae.errors import unknown_name
from gpae.training.config import ExperimentConfig


@dataclass(frozen=True)
class AlgorithmSpec:
    """What tells one algorithm from another. Everything else is shared by the algorithms of a learner."""

    name: str
    summary: str
    """One line."""
    source: str
    """Where it is defined."""
    critic: str
    """What its critic (of a value-based method, its mixer) is shown, in a few words."""
    method: Callable[[ExperimentConfig, EnvSpec], Method] | None = None
    """Of an actor-critic algorithm: makes the critic and what is made of it, for an experiment."""
    policy_loss: Literal["clipped", "gradient"] = "clipped"
    """The clipped surrogate of PPO, or the plain policy gradient log pi A."""
    mixer: Literal["identity", "sum", "monotone"] | None = None
    """Of a value-based method: how the team's value is made of the agents' (`gpae.networks.mixers`)."""

    def __post_init__(self) -> None:
        """Checks that it is one of the two kinds."""
        if (self.method is None) == (self.mixer is None):
            raise ValueError(f"{self.name}: an algorithm has either a method or a mixer")

    @property
    def value_based(self) -> bool:
        """Whether it learns values of actions and not a policy: which learner it is a case of."""
        return self.mixer is not None


_EQ = partial(PerAgent, inputs="joint_action", ratios="own", own_trace="dt")

ALGORITHMS: dict[str, AlgorithmSpec] = {}
"""By name, in the order in which they are listed to users."""


def register(spec: AlgorithmSpec) -> AlgorithmSpec:
    """Adds an algorithm, which `gpae.train` and the command line then know by its name.

    Raises:
      ValueError: the name is taken.
    """
    if spec.name in ALGORITHMS:
        raise ValueError(f"there is an algorithm called {spec.name} already")
    ALGORITHMS[spec.name] = spec
    return spec


for _spec in (
    AlgorithmSpec(
        name="gpae",
        summary="per-agent advantages over many steps from a critic of the others' actions",
        source="Kim et al. 2026, arXiv 2603.02654",
        critic="joint action",
        method=_EQ,
    ),
    AlgorithmSpec(
        name="gpae-state",
        summary="control: gpae without the joint-action half of its critic, everything else equal",
        source="this project",
        critic="state",
        method=partial(_EQ, inputs="state"),
    ),
    AlgorithmSpec(
        name="mappo",
        summary="PPO with a centralised critic V(s); on a window, V-trace with the team's joint ratio",
        source="Yu et al. 2022, arXiv 2103.01955; Espeholt et al. 2018, arXiv 1802.01561",
        critic="state",
        method=partial(PerAgent, inputs="state", ratios="joint", own_trace="it"),
    ),
    AlgorithmSpec(
        name="ippo",
        summary="PPO for each agent by itself, its critic seeing what the agent sees",
        source="de Witt et al. 2020, arXiv 2011.09533",
        critic="observation",
        method=partial(PerAgent, inputs="observation", ratios="own", own_trace="it"),
    ),
    AlgorithmSpec(
        name="coma",
        summary="one-step advantages of gpae's critic, which is trained on the same targets",
        source="Foerster et al. 2018, arXiv 1705.08926, in the form of arXiv 2603.02654",
        critic="joint action",
        method=partial(_EQ, look_ahead="one_step"),
    ),
    AlgorithmSpec(
        name="coma-q",
        summary="the counterfactual baseline: a critic of every own action, averaged over the own policy",
        source="Foerster et al. 2018, arXiv 1705.08926",
        critic="others' actions",
        method=ComaQ,
    ),
    AlgorithmSpec(
        name="dae",
        summary="mappo minus what the agent's own action was expected to bring, by learnt reward models",
        source="Li, Xie and Lu 2022, Difference Advantage Estimation, ICML",
        critic="state",
        method=DAE,
    ),
    AlgorithmSpec(
        name="dop",
        summary="a critic that is a weighted sum over agents, which also learns off-policy; plain policy gradient",
        source="Wang et al. 2021, arXiv 2007.12322",
        critic="state, observation",
        method=DOP,
        policy_loss="gradient",
    ),
    AlgorithmSpec(
        name="dop-clip",
        summary="dop with the clipped surrogate of PPO",
        source="Wang et al. 2021, arXiv 2007.12322; the clip is this project's",
        critic="state, observation",
        method=DOP,
    ),
    AlgorithmSpec(
        name="vdn",
        summary="Q-learning of a team value that is the sum of the agents' values",
        source="Sunehag et al. 2018, arXiv 1706.05296",
        critic="none",
        mixer="sum",
    ),
    AlgorithmSpec(
        name="qmix",
        summary="Q-learning of a team value that rises with every agent's value, by weights made from the state",
        source="Rashid et al. 2018, arXiv 1803.11485",
        critic="state",
        mixer="monotone",
    ),
    AlgorithmSpec(
        name="iql",
        summary="Q-learning by each agent for itself, with the team's reward",
        source="Tan 1993; recurrent, as the baseline of arXiv 1803.11485",
        critic="none",
        mixer="identity",
    ),
):
    register(_spec)


def algorithm(name: str) -> AlgorithmSpec:
    """The algorithm called `name`.

    Raises:
      UserError: there is none; the message gives the nearest names.
    """
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]

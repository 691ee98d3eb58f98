"""The algorithms, as data: what the critic is shown, and whose importance ratios correct for old experience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpae.errors import unknown_name
from gpae.estimators.traces import Scheme


@dataclass(frozen=True)
class AlgorithmSpec:
    """What tells one algorithm from another. Everything else is shared by the algorithms of a learner."""

    name: str
    summary: str
    """One line."""
    source: str
    """Where it is defined."""
    critic: Literal["joint_action", "state", "observation", "none"]
    """What the critic is shown (`gpae.networks.critics`); of a value-based method, what the mixer is."""
    ratios: Literal["own", "joint"]
    """Ratios of the correction for old experience: each agent's own and the others' apart, or the team's product."""
    trace: Scheme
    """The trace scheme it is used with unless another is asked for (`gpae.estimators.importance_traces`)."""
    advantages: Literal["multi_step", "one_step"] = "multi_step"
    """How far the policy's advantages look ahead: by lambda, as the critic's targets do, or one step."""
    learner: Literal["actor_critic", "value_based"] = "actor_critic"
    """Which learner it is a case of (`gpae.algorithms.learners`). Ratios, trace and advantages are for the first."""
    mixer: Literal["none", "identity", "sum", "monotone"] = "none"
    """How a value-based method makes the team's value of the agents' values (`gpae.networks.mixers`)."""


ALGORITHMS = {
    spec.name: spec
    for spec in (
        AlgorithmSpec(
            name="gpae",
            summary="per-agent advantages over many steps from a critic of the others' actions",
            source="Kim et al. 2026, arXiv 2603.02654",
            critic="joint_action",
            ratios="own",
            trace="dt",
        ),
        AlgorithmSpec(
            name="gpae-state",
            summary="control: gpae without the joint-action half of its critic, everything else equal",
            source="this project",
            critic="state",
            ratios="own",
            trace="dt",
        ),
        AlgorithmSpec(
            name="coma",
            summary="one-step advantages of gpae's critic, which is trained on the same targets",
            source="Foerster et al. 2018, arXiv 1705.08926, in the form of arXiv 2603.02654",
            critic="joint_action",
            ratios="own",
            trace="dt",
            advantages="one_step",
        ),
        AlgorithmSpec(
            name="mappo",
            summary="PPO with a centralised critic V(s); on a window, V-trace with the team's joint ratio",
            source="Yu et al. 2022, arXiv 2103.01955; Espeholt et al. 2018, arXiv 1802.01561",
            critic="state",
            ratios="joint",
            trace="it",
        ),
        AlgorithmSpec(
            name="ippo",
            summary="PPO for each agent by itself, its critic seeing what the agent sees",
            source="de Witt et al. 2020, arXiv 2011.09533",
            critic="observation",
            ratios="own",
            trace="it",
        ),
        AlgorithmSpec(
            name="vdn",
            summary="Q-learning of a team value that is the sum of the agents' values",
            source="Sunehag et al. 2018, arXiv 1706.05296",
            critic="none",
            ratios="own",
            trace="none",
            learner="value_based",
            mixer="sum",
        ),
        AlgorithmSpec(
            name="qmix",
            summary="Q-learning of a team value that rises with every agent's value, by weights made from the state",
            source="Rashid et al. 2018, arXiv 1803.11485",
            critic="state",
            ratios="own",
            trace="none",
            learner="value_based",
            mixer="monotone",
        ),
        AlgorithmSpec(
            name="iql",
            summary="Q-learning by each agent for itself, with the team's reward",
            source="Tan 1993; recurrent, as the baseline of arXiv 1803.11485",
            critic="none",
            ratios="own",
            trace="none",
            learner="value_based",
            mixer="identity",
        ),
    )
}
"""By name, in the order in which they are listed to users."""


def algorithm(name: str) -> AlgorithmSpec:
    """The algorithm called `name`.

    Raises:
      UserError: there is none; the message gives the nearest names.
    """
    if name not in ALGORITHMS:
        raise unknown_name("algorithm", name, ALGORITHMS)
    return ALGORITHMS[name]

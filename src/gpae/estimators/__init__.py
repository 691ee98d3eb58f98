"""Advantage estimators: pure functions on arrays, with time the leading axis and agents the trailing one.

    How good was an agent's action, over many steps?             gpae (per agent), gae (for a team), dae (a difference)
    ... beside the agent's other actions, one step ahead?        counterfactual_advantages
    What should an action's value be, from old experience?       tree_backup
    How much does old experience still count?                    importance_traces
    Whom does an estimator blame?                                advantage_gap

They know no networks and no configuration, and they jit, vmap, differentiate and run under `jax.shard_map`. Gradients
flow through them: whoever builds a loss stops them (`jax.lax.stop_gradient`) where its method says so.

    from gpae import estimators

    targets = estimators.gpae(rewards, values, next_values, terminated, truncated, log_ratios, gamma=0.99, lambda_=0.95)
"""

from gpae.estimators.action_values import counterfactual_advantages, tree_backup
from gpae.estimators.advantages import advantage_gap, dae, gae, gpae
from gpae.estimators.traces import (
    BOOTSTRAPS,
    OWN_WEIGHTS,
    TRACES,
    Bootstrap,
    OwnWeight,
    Trace,
    importance_traces,
)
from gpae.types import Targets

__all__ = [
    "BOOTSTRAPS",
    "OWN_WEIGHTS",
    "TRACES",
    "Bootstrap",
    "OwnWeight",
    "Targets",
    "Trace",
    "advantage_gap",
    "counterfactual_advantages",
    "dae",
    "gae",
    "gpae",
    "importance_traces",
    "tree_backup",
]

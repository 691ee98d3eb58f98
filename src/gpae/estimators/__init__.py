"""Advantage estimators: pure functions on arrays, with time the leading axis and agents the trailing one.

    what you have and want to know                                               function
    a critic EQ^i(s, a^-i): how good was each agent's action, over many steps?   gpae
    a critic V(s) or V^i(o): how good was the team's action, over many steps?    gae
    V(s) and a model of the reward: the same, less what one's own action brings? dae
    a critic Q(s, a): how good was each agent's action beside its other ones?    counterfactual_advantages
    a critic Q(s, a) and replayed steps: towards what should it be trained?      tree_backup
    ratios pi / mu of old steps: how much do those that followed still count?    importance_traces
    advantages, and an agent that was disturbed: is it the one that is blamed?   advantage_gap

`gpae`, `gae` and `dae` return the critic's targets beside the advantages, as `Targets`. `Trace`, `OwnWeight` and
`Bootstrap` are the types of what can be chosen for old experience; `TRACES`, `OWN_WEIGHTS` and `BOOTSTRAPS` list it.

The functions know no networks and no configuration, and they jit, vmap, differentiate and run under `jax.shard_map`.
Gradients flow through them: whoever builds a loss stops them (`jax.lax.stop_gradient`) where its method says so.
Numbers of one episode never reach the rows of the one before it, be they infinite or NaN.

>>> import jax.numpy as jnp
>>> from gpae import estimators
>>> T, E, N = 128, 16, 5  # rows of time, environments, agents
>>> targets = estimators.gpae(
...     rewards=jnp.ones((T, E)),  # the team's
...     values=jnp.zeros((T, E, N)),  # EQ^i(s_t, a^-i_t), from your critic
...     next_values=jnp.zeros((T, E, N)),  # of what follows step t, before any reset
...     terminated=jnp.zeros((T, E), bool),  # no value beyond
...     truncated=jnp.zeros((T, E), bool),  # cut off, but with a value beyond
...     log_ratios=jnp.zeros((T, E, N)),  # log pi - log mu of the actions taken; zeros on-policy
...     gamma=0.99,
...     lambda_=0.95,
... )
>>> targets.advantages.shape, targets.critic_targets.shape
((128, 16, 5), (128, 16, 5))
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

"""Advantage estimators: pure functions on arrays, with time the leading axis and agents the trailing one.

They know no networks and no configuration, and they jit, vmap, differentiate and run under `jax.shard_map`. Gradients
flow through them: whoever builds a loss stops them (`jax.lax.stop_gradient`) where its method says so.
"""

from gpae.estimators.action_values import counterfactual_advantages, tree_backup
from gpae.estimators.advantages import advantage_gap, dae, gae, gpae
from gpae.estimators.traces import Bootstrap, OwnWeight, Trace, importance_traces
from gpae.types import Targets

__all__ = [
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

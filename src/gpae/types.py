"""The values that pass from one stage of training to the next.

Axes are time-major: T rows of time, E environments, N agents, O observation features, S state features,
A actions. A *row* is one time step of one environment's sequence.

**Rows at a time limit.** When an episode is truncated at row t, row t + 1 shows its final observation: the
carry is not reset, an action is drawn but not executed, and the row is marked invalid. Row t + 2 begins a new
episode. So what follows row t is always row t + 1, the bootstrap needs no branch, and no observation is computed
twice. Where a row is invalid its reward is 0, `truncated` is set (nothing flows back through it) and no loss counts it.
After a termination nothing is bootstrapped, so the next row begins the new episode at once.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from flax import struct
from jax import Array


@struct.dataclass
class View:
    """What can be seen of an environment's state."""

    observations: Array
    """[N, O] float32; zeros for an agent that is out of play."""
    state: Array
    """[S] float32, for a centralised critic."""
    action_mask: Array
    """The legal actions, [N, A] bool; every agent, in play or not, has at least one. Where actions are continuous, the
    components that the agent has, [N, D] bool. One that is out of play should have none: its action is then 0 and its
    log-density too, so that numbers without meaning enter no importance ratio."""
    alive: Array
    """[N] bool: the agent is in play."""


@struct.dataclass
class Targets:
    """What an estimator returns."""

    advantages: Array
    """A^i_t, [T, ..., N]."""
    critic_targets: Array
    """Regression targets of the critic, [T, ..., N]."""


@struct.dataclass
class Trajectory:
    """T rows of experience in E environments, as the behaviour policy mu collected them."""

    view: View
    """What was seen before each action, leaves [T, E, ...]."""
    actions: Array
    """The actions taken, [T, E, N] int32; [T, E, N, D] float32 where they are continuous."""
    log_probs: Array
    """log mu of the actions taken, [T, E, N]."""
    forced: Array
    """The agent's action was forced by an intervention, not drawn from its policy, [T, E, N] bool."""
    is_first: Array
    """The row begins an episode: the carry is reset before it, [T, E] bool."""
    valid: Array
    """The action was executed (see "Rows at a time limit"), [T, E] bool."""
    rewards: Array
    """The team's reward for the row's step, [T, E]."""
    terminated: Array
    """The episode came to its end by the row's step, [T, E] bool."""
    truncated: Array
    """The episode was cut off after the row's step (or the row is invalid), [T, E] bool."""
    won: Array
    """The team won by the row's step, [T, E] bool."""
    agent_rewards: Array | None = None
    """Each agent's own reward, [T, E, N]; kept only where an algorithm learns from it."""
    survivors: Array | None = None
    """See `gpae.envs.vector.VectorState.survivors`, [T, E, N]."""

    @property
    def forgets(self) -> Array:
        """Whose memory a row empties: see `forgetting`."""
        return forgetting(self.is_first, self.survivors, self.view)


def forgetting(is_first: Array, survivors: Array | None, view: View) -> Array:
    """Whose memory a row empties: everybody's where an episode begins, [...] bool.

    Where survivors are kept, [..., N]: of those that are out of play, and as an episode begins of those that were when
    the one before ended. So it is where memory is reset by an agent's own `done`.
    """
    if survivors is None:
        return is_first
    return jnp.where(jnp.expand_dims(is_first, -1), ~survivors, ~view.alive)


PyTree = Any

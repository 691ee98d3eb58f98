"""What is made of a critic with a value for every action of an agent."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gpae.estimators import _checks as check


def counterfactual_advantages(action_values: ArrayLike, probs: ArrayLike, actions: ArrayLike) -> Array:
    r"""How much better than the agent's average its action was, the others' actions being what they were.

        A^i = Q^i(a^i) - sum_a pi^i(a) Q^i(a)

    with Q^i(a) = Q(s, (a^-i, a)). Its mean over a^i ~ pi^i is 0; with one agent it is Q - V.

    Args:
      action_values: Q^i of every own action, [..., N, A], floating; finite, of illegal actions too.
      probs: pi^i, [..., N, A], floating, each summing to 1 over the last axis.
      actions: those taken, [..., N], integer.

    Returns:
      A, [..., N].

    Raises:
      TypeError: values or probabilities that are not floating, or actions that are not integer.
      ValueError: shapes that do not agree.

    Example:
      One agent with two actions, worth 1 and 3, which it takes equally often.

      >>> action_values, probs = jnp.array([[1.0, 3.0]]), jnp.array([[0.5, 0.5]])
      >>> print(estimators.counterfactual_advantages(action_values, probs, actions=jnp.array([1])))
      [1.]

    Source: Foerster et al. 2018 (arXiv 1705.08926), Eq. 4.
    """
    action_values = check.floating("action_values", action_values)
    if action_values.ndim < 2:
        raise ValueError(f"action_values must be [..., N, A], got shape {action_values.shape}")
    probs = check.floating("probs", probs, action_values.shape)
    actions = check.integer("actions", actions, action_values.shape[:-1])
    taken = jnp.take_along_axis(action_values, actions[..., None], axis=-1)[..., 0]
    return taken - jnp.sum(probs * action_values, axis=-1)


def tree_backup(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    log_probs: ArrayLike,
    *,
    gamma: ArrayLike,
    lambda_: ArrayLike,
    steps: int,
) -> Array:
    r"""Off-policy targets of an action value over at most m = `steps` steps, without any behaviour policy's ratio.

        delta_t = r_t + gamma (1 - terminated_t) E_{t+1} - Q_t
        y_t     = Q_t + sum_{l=0}^{m-1} [ prod_{j=1}^{l} gamma lambda (1 - ended_{t+j-1}) pi(a_{t+j}) ] delta_{t+l}

    where E is the mean of Q over the policy's actions, and pi(a) the probability of all that was done at a step, by
    all agents together: since that falls fast with their number, few steps reach far. With certain actions and m = T it
    is TD(lambda), the critic target of `gae`.

    Args:
      rewards: what step t brought, [T, ...], floating.
      values: Q_t of the taken (joint) action, [T, ...].
      next_values: E_{t+1}, of what follows step t, before any reset, [T, ...]. Not used where terminated.
      terminated: step t ended the episode and nothing follows, [T, ...] bool. Stops bootstrap and trace.
      truncated: the episode was cut off after step t, [T, ...] bool. Cuts the trace only.
      log_probs: log pi of the taken (joint) action, [T, ...].
      gamma: discount, scalar in [0, 1], concrete or traced.
      lambda_: scalar in [0, 1], concrete or traced.
      steps: m, at least 1.

    Returns:
      y, [T, ...].

    Raises:
      TypeError: an array that is not floating, or a flag that is not bool.
      ValueError: shapes that do not agree, steps < 1, or a concrete number out of range.

    Source: Precup, Sutton and Singh 2000; for teams Wang et al. 2021 (arXiv 2007.12322), Eq. 8.
    """
    values = check.floating("values", values)
    if values.ndim < 1:
        raise ValueError(f"values must be [T, ...], got shape {values.shape}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    rewards = check.floating("rewards", rewards, values.shape)
    next_values = check.floating("next_values", next_values, values.shape)
    log_probs = check.floating("log_probs", log_probs, values.shape)
    terminated = check.flags("terminated", terminated, values.shape)
    truncated = check.flags("truncated", truncated, values.shape)
    gamma = jnp.asarray(check.scalar("gamma", gamma, 0, 1), values.dtype)
    lambda_ = jnp.asarray(check.scalar("lambda_", lambda_, 0, 1), values.dtype)

    deltas = rewards + gamma * jnp.where(terminated, 0, next_values) - values
    ended = terminated | truncated
    traces = jnp.exp(log_probs)
    error = deltas
    for _ in range(min(steps, len(values)) - 1):  # after k rounds, the sum of k + 1 steps, of which T are there
        following = jnp.concatenate([(traces * error)[1:], jnp.zeros_like(error[:1])])
        # No product with a weight of 0: the numbers of the next episode may be infinite or NaN.
        error = jnp.where(ended, deltas, deltas + gamma * lambda_ * following)
    return values + error

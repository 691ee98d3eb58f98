"""Advantages and critic targets, by one backward recursion over time."""

from __future__ import annotations

from math import inf

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gpae.errors import unknown_name
from gpae.estimators import _checks as check
from gpae.estimators.traces import OWN_WEIGHTS, TRACES, OwnWeight, Trace, importance_traces, own_weights
from gpae.types import Targets


def gpae(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    log_ratios: ArrayLike,
    *,
    gamma: ArrayLike,
    lambda_: ArrayLike,
    trace: Trace = "dt",
    eta: ArrayLike = 1.05,
    own_weight: OwnWeight = "truncated",
    own_cap: ArrayLike = inf,
) -> Targets:
    r"""Generalized per-agent advantages, on-policy or off-policy.

    With EQ^i the mean of Q over the agent's own action, and ended = terminated or truncated,

        delta^i_t = r_t + gamma (1 - terminated_t) EQ^i_{t+1} - EQ^i_t
        A^i_t     = delta^i_t + gamma (1 - ended_t) c^i_{t+1} A^i_{t+1},   t = T-1 .. 0,   A^i_T = 0
        y^i_t     = EQ^i_t + w^i_t A^i_t

    where c is `importance_traces` and w, the weight of the own action, min(1, rho^i). The product of traces begins at
    t + 1: the ratio of step t itself belongs to the surrogate loss, and in y to w.

    One agent on-policy is `gae`; one agent off-policy with st, it or dt is V-trace(lambda) with both caps 1. What these
    targets converge to, and which choice of trace, own_weight and next_values has no bias, is in
    `docs/theory-off-policy.md`.

    Args:
      rewards: what step t brought, [T, ...] for a team or [T, ..., N], floating.
      values: EQ^i(s_t, a^-i_t), [T, ..., N].
      next_values: what follows step t, before any reset: EQ^i(s_{t+1}, a^-i_{t+1}), or another estimate of its mean
        over a^-i ~ pi^-i; [T, ..., N]. Not used where terminated.
      terminated: step t ended the episode and nothing follows, [T, ...] bool. Stops bootstrap and trace.
      truncated: the episode was cut off after step t, [T, ...] bool. Cuts the trace only.
      log_ratios: log pi - log mu of the taken actions, [T, ..., N]; zeros on-policy.
      gamma: discount, scalar in [0, 1], concrete or traced.
      lambda_: scalar in [0, 1], concrete or traced.
      trace: "none", "st", "it", "dt" or "others", see `importance_traces`.
      eta: cap on the others' product of ratios in the trace, >= 1, concrete or traced: a scalar, or an array that
        broadcasts to [T, ..., N], [T, 1, ..., 1] for one of each step. Used by the traces "dt" and "others".
      own_weight: "truncated", w = min(1, rho^i), or "exact", w = min(own_cap, rho^i).
      own_cap: cap on rho^i where nothing else bounds it, in the trace "others" and the weight "exact": scalar >= 1,
        concrete or traced. Infinite is unbiased; a finite one trades variance for bias.

    Returns:
      Targets(advantages=A, critic_targets=y), both [T, ..., N].

    Raises:
      TypeError: an array that is not floating, or a flag that is not bool.
      ValueError: shapes that do not agree, an unknown trace or own_weight, or a concrete number out of range.

    Example:
      Two steps of two agents, of which the second brings a reward. Meanwhile agent 0 has halved the probability of what
      it did there, and agent 1 has doubled it: the reward counts for less in the advantage of agent 0 alone.

      >>> targets = estimators.gpae(
      ...     rewards=jnp.array([0.0, 1.0]),
      ...     values=jnp.zeros((2, 2)),
      ...     next_values=jnp.zeros((2, 2)),
      ...     terminated=jnp.array([False, True]),
      ...     truncated=jnp.array([False, False]),
      ...     log_ratios=jnp.log(jnp.array([[1.0, 1.0], [0.5, 2.0]])),
      ...     gamma=0.5,
      ...     lambda_=1.0,
      ... )
      >>> print(targets.advantages.round(4))
      [[0.2625 0.5   ]
       [1.     1.    ]]
      >>> print(targets.critic_targets.round(4))
      [[0.2625 0.5   ]
       [0.5    1.    ]]

    Source: Kim et al. 2026 (arXiv 2603.02654), section 4.
    """
    _check_names(trace, own_weight)
    values = check.per_agent("values", values)
    log_ratios = check.floating("log_ratios", log_ratios, values.shape)
    flags = (check.flags("terminated", terminated, values.shape[:-1]), truncated)

    traces = importance_traces(log_ratios, trace=trace, lambda_=lambda_, eta=eta, own_cap=own_cap)
    weights = own_weights(log_ratios, own_weight=own_weight, own_cap=own_cap)
    advantages = _advantages(rewards, values, next_values, *flags, traces, gamma)
    return Targets(advantages=advantages, critic_targets=values + weights * advantages)


def gae(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    *,
    gamma: ArrayLike,
    lambda_: ArrayLike,
) -> Targets:
    r"""Generalized advantages, as PPO, IPPO and MAPPO use them.

        delta_t = r_t + gamma (1 - terminated_t) V_{t+1} - V_t
        A_t     = delta_t + gamma lambda (1 - ended_t) A_{t+1},   t = T-1 .. 0,   A_T = 0
        y_t     = V_t + A_t

    Args:
      rewards: what step t brought, [T, ...] for a team or [T, ..., N], floating.
      values: V at step t, [T, ...] for a team or [T, ..., N].
      next_values: V of what follows step t, before any reset; shape of values. Not used where terminated.
      terminated: step t ended the episode and nothing follows, bool; [T, ...], or the shape of values. Stops bootstrap
        and trace.
      truncated: the episode was cut off after step t, bool; shape of terminated. Cuts the trace only.
      gamma: discount, scalar in [0, 1], concrete or traced.
      lambda_: scalar in [0, 1], concrete or traced.

    Returns:
      Targets(advantages=A, critic_targets=y), both of the shape of values.

    Raises:
      TypeError: an array that is not floating, or a flag that is not bool.
      ValueError: shapes that do not agree, or a concrete number out of range.

    Source: Schulman et al. 2016 (arXiv 1506.02438), Eq. 16.
    """
    values = check.floating("values", values)
    lambda_ = jnp.asarray(check.scalar("lambda_", lambda_, 0, 1), values.dtype)
    traces = jnp.broadcast_to(lambda_, values.shape)
    advantages = _advantages(rewards, values, next_values, terminated, truncated, traces, gamma)
    return Targets(advantages=advantages, critic_targets=values + advantages)


def dae(
    rewards: ArrayLike,
    values: ArrayLike,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    expected_rewards: ArrayLike,
    *,
    gamma: ArrayLike,
    lambda_: ArrayLike,
    beta: ArrayLike,
    log_ratios: ArrayLike | None = None,
    trace: Trace = "it",
    eta: ArrayLike = 1.05,
    own_weight: OwnWeight = "truncated",
    own_cap: ArrayLike = inf,
) -> Targets:
    r"""Difference advantages: GAE of the team minus what each agent's own actions were expected to bring.

        delta_t  = r_t + gamma (1 - terminated_t) V_{t+1} - V_t
        G_t      = delta_t + gamma lambda (1 - ended_t) G_{t+1}
        B^i_t    = beta rbar^i_t + beta gamma lambda (1 - ended_t) B^i_{t+1}
        A^i_t    = G_t - B^i_t = sum_l (gamma lambda)^l [ delta_{t+l} - beta^{l+1} rbar^i_{t+l} ]
        y^i_t    = V_t + A^i_t

    with rbar^i the mean of the reward over agent i's own action. beta = 0 is `gae`, bit for bit. The term of l = 0 is a
    baseline and changes no expected gradient; the later ones do, the less the smaller beta is. Off-policy (this
    project's extension) lambda becomes the trace c_{t+1} in both recursions, and y^i_t = V_t + w^i_t A^i_t, as in
    `gpae`.

    Args:
      rewards: what step t brought, [T, ...] for a team or [T, ..., N], floating.
      values: V at step t, [T, ..., N].
      next_values: V of what follows step t, before any reset, [T, ..., N]. Not used where terminated.
      terminated: step t ended the episode and nothing follows, [T, ...] bool. Stops bootstrap and trace.
      truncated: the episode was cut off after step t, [T, ...] bool. Cuts the trace only.
      expected_rewards: rbar^i, sum_a pi^i(a) r(s_t, a^-i_t, a), [T, ..., N].
      gamma: discount, scalar in [0, 1], concrete or traced.
      lambda_: scalar in [0, 1], concrete or traced.
      beta: scalar in [0, 1], concrete or traced.
      log_ratios: log pi - log mu of the taken actions, [T, ..., N]; None on-policy.
      trace: as in `gpae`; like the three below of no effect on-policy.
      eta: as in `gpae`.
      own_weight: as in `gpae`.
      own_cap: as in `gpae`.

    Returns:
      Targets(advantages=A, critic_targets=y), both [T, ..., N].

    Raises:
      TypeError: an array that is not floating, or a flag that is not bool.
      ValueError: shapes that do not agree, an unknown trace or own_weight, or a concrete number out of range.

    Source: Li, Xie and Lu 2022 (ICML, PMLR 162:13066-13085) and its released code.
    """
    _check_names(trace, own_weight)
    values = check.per_agent("values", values)
    expected_rewards = check.floating("expected_rewards", expected_rewards, values.shape)
    beta = jnp.asarray(check.scalar("beta", beta, 0, 1), values.dtype)
    terminated = check.flags("terminated", terminated, values.shape[:-1])
    flags = (terminated, check.flags("truncated", truncated, values.shape[:-1]))
    if log_ratios is None:
        lambda_ = jnp.asarray(check.scalar("lambda_", lambda_, 0, 1), values.dtype)
        traces, weights = jnp.broadcast_to(lambda_, values.shape), jnp.ones((), values.dtype)
    else:
        log_ratios = check.floating("log_ratios", log_ratios, values.shape)
        traces = importance_traces(log_ratios, trace=trace, lambda_=lambda_, eta=eta, own_cap=own_cap)
        weights = own_weights(log_ratios, own_weight=own_weight, own_cap=own_cap)
    team = _advantages(rewards, values, next_values, *flags, traces, gamma)
    nothing = jnp.zeros_like(values)
    shares = _advantages(beta * expected_rewards, nothing, nothing, *flags, beta * traces, gamma)
    advantages = team - shares
    return Targets(advantages=advantages, critic_targets=values + weights * advantages)


def advantage_gap(advantages: ArrayLike, alive: ArrayLike, agent: int) -> tuple[Array, Array]:
    r"""How much worse than its teammates' an agent's advantage is: whom does the estimator blame?

        dA_t = mean over living j != i of A^j_t - A^i_t

    At steps where agent i was made to do something useless, an advantage that is the same for all has dA = 0, and one
    that tells the agents apart has dA > 0.

    Args:
      advantages: [..., N], floating.
      alive: the agents that are in play, [..., N] bool.
      agent: i.

    Returns:
      dA, [...], and where it exists, [...] bool: where a teammate lives. Elsewhere dA is 0.

    Raises:
      TypeError: advantages not floating, or alive not bool.
      ValueError: shapes that do not agree, or an agent that is not there.

    Example:
      Agent 0 has spoilt a step, and of its teammates agent 2 is out of play.

      >>> gap, exists = estimators.advantage_gap(jnp.array([-1.0, 0.5, 9.0]), jnp.array([True, True, False]), agent=0)
      >>> print(gap, exists)
      1.5 True

    Source: Kim et al. 2026 (arXiv 2603.02654), section 5.
    """
    advantages = check.floating("advantages", advantages)
    alive = check.flags("alive", alive, advantages.shape)
    num_agents = advantages.shape[-1]
    if not 0 <= agent < num_agents:
        raise ValueError(f"agent must be between 0 and {num_agents - 1}, got {agent}")
    mates = alive & jnp.broadcast_to(jnp.arange(num_agents) != agent, alive.shape)
    count = jnp.sum(mates, axis=-1)
    mean = jnp.sum(jnp.where(mates, advantages, 0), axis=-1) / jnp.maximum(count, 1).astype(advantages.dtype)
    return jnp.where(count > 0, mean - advantages[..., agent], 0), count > 0


def _check_names(trace: str, own_weight: str) -> None:
    if trace not in TRACES:
        raise unknown_name("trace", trace, TRACES)
    if own_weight not in OWN_WEIGHTS:
        raise unknown_name("own_weight", own_weight, OWN_WEIGHTS)


def _advantages(
    rewards: ArrayLike,
    values: Array,
    next_values: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    traces: Array,
    gamma: ArrayLike,
) -> Array:
    """A_t = delta_t + gamma (1 - ended_t) c_{t+1} A_{t+1}, of the shape of values; checks what its callers have not."""
    if values.ndim < 1:
        raise ValueError(f"values must be [T, ...], got shape {values.shape}")
    terminated = check.flags("terminated", terminated)
    if terminated.shape not in (values.shape, values.shape[:-1]):
        raise ValueError(f"terminated must have shape {values.shape[:-1]} or {values.shape}, got {terminated.shape}")
    truncated = check.flags("truncated", truncated, terminated.shape)
    next_values = check.floating("next_values", next_values, values.shape)
    rewards = check.floating("rewards", rewards)
    if rewards.shape not in (terminated.shape, values.shape, values.shape[:-1] or values.shape):
        wanted = " or ".join(map(str, (values.shape[:-1] or values.shape, values.shape)))
        raise ValueError(f"rewards must have shape {wanted}, got {rewards.shape}")
    gamma = jnp.asarray(check.scalar("gamma", gamma, 0, 1), values.dtype)

    def all_agents(x: Array) -> Array:
        return x if x.ndim == values.ndim else x[..., None]

    terminated, ended = all_agents(terminated), all_agents(terminated | truncated)
    deltas = all_agents(rewards) + gamma * jnp.where(terminated, 0, next_values) - values
    # In half precision rewards and values may be, and ratios not.
    dtype = jnp.result_type(deltas, traces)
    deltas, traces = deltas.astype(dtype), traces.astype(dtype)

    # Row by row: on CPU an associative scan takes 2.4 to 6.8 times as long (benchmarks/backward_scan.py).
    def step(later: Array, row: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        delta, end, trace = row
        advantage = delta + gamma * jnp.where(end, 0, later)
        return trace * advantage, advantage  # the trace of this row discounts it in the row before

    return jax.lax.scan(step, jnp.zeros_like(deltas, shape=deltas.shape[1:]), (deltas, ended, traces), reverse=True)[1]

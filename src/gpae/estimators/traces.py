"""How old experience is corrected: traces, the weight of the own action, and the names of what can be chosen.

Trace coefficients say how much of what was seen later still counts under the current policy.
"""

from __future__ import annotations

import typing
from math import inf
from typing import Literal, TypeAlias

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from gpae.errors import unknown_name
from gpae.estimators import _checks as check

Trace: TypeAlias = Literal["none", "st", "it", "dt", "others"]
"""How the traces are corrected for old experience, see `importance_traces`; dt is the paper's."""
OwnWeight: TypeAlias = Literal["truncated", "exact"]
"""How the agent's own action is weighed in the critic's target, see `own_weights`; truncated is the paper's."""
Bootstrap: TypeAlias = Literal["sampled", "weighted", "resampled", "expected"]
"""How `next_values`, EQ^i of what follows, stand for the mean over the others' current policies (`docs/theory.md`).

    sampled     EQ^i(s', a'^-i), the actions taken: the paper's; off-policy its mean is over mu^-i
    weighted    rho^-i EQ^i(s', a'^-i)
    resampled   EQ^i(s', a^-i), a^-i drawn afresh from pi^-i
    expected    the mean itself, a value of its own

To the estimators they differ in nothing but `next_values`, which whoever has the critic makes.
"""

TRACES: tuple[Trace, ...] = typing.get_args(Trace)
OWN_WEIGHTS: tuple[OwnWeight, ...] = typing.get_args(OwnWeight)
BOOTSTRAPS: tuple[Bootstrap, ...] = typing.get_args(Bootstrap)

LOG_LIMIT = 80.0
"""Log-ratios are clipped to +-80, near the ends of float32, and no trace exceeds lambda e^80, so that infinite ratios
harm nobody.
"""


def importance_traces(
    log_ratios: ArrayLike,
    *,
    trace: Trace,
    lambda_: ArrayLike,
    eta: ArrayLike = 1.05,
    own_cap: ArrayLike = inf,
) -> Array:
    r"""Trace coefficients c^i_t of a per-agent off-policy operator.

    With rho^i = pi^i / mu^i the agent's own ratio and rho^-i the product of the others',

        none    lambda                              no correction
        st      lambda min(1, rho^i rho^-i)         single truncation, of the team's product
        it      lambda min(1, rho^i)                individual truncation, blind to the others
        dt      lambda min(1, rho^i min(eta, rho^-i))     double truncation, the paper's
        others  lambda min(own_cap, rho^i) min(eta, rho^-i)     only the others' product is cut

    On-policy each of them is lambda. dt <= st, and dt tends to st as eta grows: the two differ where the others'
    product exceeds eta while the agent's own ratio is below 1 / eta, a drop that st hides. others, uncapped, moves no
    fixed point (`docs/theory-off-policy.md`), but nothing bounds it below lambda e^80; a finite own_cap does, at the
    price of a bias. With eta infinite it is the untruncated per-decision trace lambda rho^i rho^-i.

    Args:
      log_ratios: log pi - log mu of the taken actions, [T, ..., N], floating; beyond +-80 they count as +-80.
      trace: one of the names above.
      lambda_: scalar in [0, 1], concrete or traced.
      eta: cap on the others' product, >= 1, concrete or traced: a scalar, or an array that broadcasts to [T, ..., N],
        [T, 1, ..., 1] for one of each step. Used by dt and others.
      own_cap: cap on the agent's own ratio, scalar >= 1, concrete or traced; used by others.

    Returns:
      c, [T, ..., N]; in [0, lambda] but for others.

    Raises:
      TypeError: log_ratios not floating.
      ValueError: fewer than two axes, an unknown trace, an eta that does not broadcast, or a concrete lambda_, eta or
        own_cap out of range.

    Example:
      Agent 0 does what it did half as often, agent 1 twice as often. The team's product is 1, and st sees no change; dt
      does.

      >>> log_ratios = jnp.log(jnp.array([[0.5, 2.0]]))
      >>> print(estimators.importance_traces(log_ratios, trace="st", lambda_=1.0))
      [[1. 1.]]
      >>> print(estimators.importance_traces(log_ratios, trace="dt", lambda_=1.0, eta=1.5))
      [[0.75 1.  ]]

    Source: Kim et al. 2026 (arXiv 2603.02654), section 4; others: `docs/theory-off-policy.md`.
    """
    if trace not in TRACES:
        raise unknown_name("trace", trace, TRACES)
    own = jnp.clip(check.per_agent("log_ratios", log_ratios), -LOG_LIMIT, LOG_LIMIT)
    lambda_ = jnp.asarray(check.scalar("lambda_", lambda_, 0, 1), own.dtype)
    log_eta = jnp.log(check.cap("eta", eta, own))
    log_own_cap = jnp.log(jnp.asarray(check.scalar("own_cap", own_cap, 1), own.dtype))

    # rho^i min(eta, rho^-i) = min(eta rho^i, rho): the others' product alone, a difference of sums, is never needed.
    if trace == "none":
        log_c = jnp.zeros_like(own)
    elif trace == "st":
        log_c = jnp.broadcast_to(jnp.minimum(_sum_over_agents(own), 0), own.shape)
    elif trace == "it":
        log_c = jnp.minimum(own, 0)
    elif trace == "dt":
        log_c = jnp.minimum(jnp.minimum(own + log_eta, _sum_over_agents(own)), 0)
    else:
        capped = jnp.minimum(own, log_own_cap)
        log_c = jnp.minimum(capped + log_eta, _sum_over_agents(own) - (own - capped))
        log_c = jnp.minimum(log_c, LOG_LIMIT)  # an infinite trace would make NaN of an advantage of 0
    return lambda_ * jnp.exp(log_c)


def own_weights(log_ratios: ArrayLike, *, own_weight: OwnWeight = "truncated", own_cap: ArrayLike = inf) -> Array:
    r"""Weight of the advantage in the critic's target, for the action of the agent itself.

        truncated  min(1, rho^i)            the paper's
        exact      min(own_cap, rho^i)      unbiased where own_cap is infinite

    Args:
      log_ratios: log pi - log mu of the taken actions, [T, ..., N], floating; beyond +-80 they count as +-80.
      own_weight: one of the names above.
      own_cap: scalar >= 1, concrete or traced; used by exact.

    Returns:
      The weights, [T, ..., N].

    Raises:
      TypeError: log_ratios not floating.
      ValueError: fewer than two axes, an unknown own_weight, or a concrete own_cap out of range.
    """
    if own_weight not in OWN_WEIGHTS:
        raise unknown_name("own_weight", own_weight, OWN_WEIGHTS)
    own = jnp.clip(check.per_agent("log_ratios", log_ratios), -LOG_LIMIT, LOG_LIMIT)
    cap = jnp.asarray(check.scalar("own_cap", own_cap, 1), own.dtype)
    return jnp.exp(jnp.minimum(own, 0 if own_weight == "truncated" else jnp.log(cap)))


def _sum_over_agents(logs: Array) -> Array:
    """Sum over the trailing axis, which is kept, with one rounding instead of N.

    Large log-ratios that cancel leave the rounding of their partial sums behind: at +-20 and N = 27 up to 1e-4 of the
    ratio in float32. So each is split into a multiple of 2^-10, whose sums float32 holds exactly up to 2^14 in any
    order, and a remainder below 2^-11. Half precision would not even hold the multiples.
    """
    wide = logs.astype(jnp.promote_types(logs.dtype, jnp.float32))
    coarse = jnp.round(wide * 1024) / 1024
    found = jnp.sum(coarse, axis=-1, keepdims=True) + jnp.sum(wide - coarse, axis=-1, keepdims=True)
    return found.astype(logs.dtype)

"""How much of the policy's gradient is signal, and what the others' actions have to do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from numpy.typing import NDArray

from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Algorithm
from gpae.algorithms.batch import Evaluation, LearnerState, PerNetwork, UpdateData
from gpae.algorithms.per_agent import PerAgent
from gpae.algorithms.replay import Segment, with_last
from gpae.algorithms.rollout import Last
from gpae.envs.outside_jax import refuse_outside_jax
from gpae.envs.protocol import Environment, EnvSpec
from gpae.errors import UserError
from gpae.networks import CriticInput
from gpae.settings import as_arrays
from gpae.training.experiment import Experiment

Floats = NDArray[np.float64]

OWN = "as it learns"
"""Advantages as the algorithm makes them, where they are none of these."""
STATE, PUBLISHED, EXPECTED = "V(s) before and after", "EQ before and after", "EQ before, V(s) after"
"""Advantages from one critic of the others' actions: MAPPO's kind, with EQ averaged over these actions; GPAE's as
published; GPAE's with the expected bootstrap."""


@dataclass(frozen=True)
class Noise:
    """Signal and noise of an advantage's gradient."""

    steps: float
    """Environment steps from which signal is as large as noise; infinite where no signal was found."""
    interval: tuple[float, float]
    """Of `steps`, 95 %; up to infinity where what was found may be chance."""
    times: float
    """These steps over those of the first kind of advantages; NaN where the signal of one of them may be chance."""
    times_interval: tuple[float, float]
    """Of `times`, 95 %."""
    direction: float
    """Cosine of the angle between the gradient and the first kind's, both without noise; NaN as `times`."""

    def finite(self) -> dict[str, Any]:
        """As JSON, which knows no infinity and no NaN: they are null."""
        return jax.tree.map(lambda x: x if np.isfinite(x) else None, asdict(self))


def gradient_noise(
    env: Environment,
    algorithm: Algorithm,
    params: PerNetwork,
    key: Array,
    *,
    updates: int = 64,
    draws: int = 32,
) -> dict[str, Noise]:
    """From how many steps of experience the policy's gradient is more signal than noise, by kind of advantages.

    Rollouts follow each other as in training, on-policy, while the parameters stay; a time limit passes before the
    first that counts. Each gives the gradient of the policy's objective without the entropy bonus. Where the critic
    is shown the others' actions, three kinds of advantages are made of the same critic and the same experience.

    Args:
      env: where.
      algorithm: one with a policy and a critic.
      params: of actor and critic.
      key: draws experience.
      updates: B: rollouts that count, 2 or more.
      draws: of the others' actions, over whose EQ the mean is V(s); one part in so many of their noise is left in it.

    Returns:
      Kind of advantages -> what was found. V(s) comes first, the algorithm's own last, where they are another.

    Raises:
      UserError: the algorithm has no policy's gradient, or the environment is not in JAX.

    Source: McCandlish et al. 2018 (arXiv 1812.06162), appendix A.1, the "simple" noise scale; the intervals are
    the jackknife's over rollouts.
    """
    if not isinstance(algorithm, ActorCritic):
        raise UserError(f"{algorithm.name} learns values of actions: it has no gradient of a policy")
    refuse_outside_jax(env, "the noise of a gradient")
    experience = algorithm.experience
    if isinstance(algorithm, PerAgent):
        experience = replace(algorithm.experience, window=1)
    learner = replace(algorithm, experience=experience, entropy=0.0)
    if experience.rows % learner.chunk_rows:
        learner = replace(learner, optimisation=replace(learner.optimisation, chunk_length=None))
    begin_key, key = jax.random.split(key)
    state = replace(jax.jit(learner.init, static_argnums=0)(env, begin_key), params=params)
    found: dict[str, list[NDArray[np.float32]]] = {}
    steps = []
    before = -(-env.spec.episode_limit // experience.rows)
    for number in range(before + updates):
        state, gradients, valid = _rollout(env, as_arrays(learner), state, jax.random.fold_in(key, number), draws=draws)
        if number >= before:
            steps.append(float(valid))
            for name, gradient in gradients.items():
                found.setdefault(name, []).append(np.asarray(gradient))
    ordered = {name: np.stack(found[name]) for name in (STATE, PUBLISHED, EXPECTED, OWN) if name in found}
    return signal_and_noise(ordered, float(np.mean(steps)))


@partial(jax.jit, static_argnames=("env", "draws"))
def _rollout(
    env: Environment, learner: ActorCritic, state: LearnerState, key: Array, *, draws: int
) -> tuple[LearnerState, dict[str, Array], Array]:
    """The next rollout: the state after it, the gradient of each kind of advantages, [P], and its executed steps."""
    spec = env.spec
    collect_key, evaluate_key, draw_key = jax.random.split(key, 3)
    following, segment, last = learner.collect(env, state, collect_key)
    evaluation = learner.reevaluate(spec, state.params, segment, last, evaluate_key)
    kinds = {OWN: evaluation}
    if isinstance(learner, PerAgent) and learner.shown == "joint_action":
        kinds = _kinds(spec, learner, state.params, segment, last, evaluation, (evaluate_key, draw_key), draws)
    gradients = {}
    for name, seen in kinds.items():
        targets = learner.targets(learner.scaled(segment.trajectory), seen)
        data = UpdateData(newest=segment.trajectory, segment=segment, evaluation=seen, targets=targets)
        batch, carries = learner.batch(data)
        gradient, _ = learner.policy_gradient(spec, state.params.actor, batch.of_policy, carries.actor, None)
        gradients[name] = ravel_pytree(gradient)[0]
    after = jax.tree.map(lambda x: x[-1], evaluation.critic.carries)
    return replace(following, carry=replace(following.carry, critic=after)), gradients, segment.trajectory.valid.sum()


def _kinds(
    spec: EnvSpec,
    learner: Any,
    params: PerNetwork,
    segment: Segment,
    last: Last,
    evaluation: Evaluation,
    keys: tuple[Array, Array],
    draws: int,
) -> dict[str, Evaluation]:
    """The experience as each kind of advantages values it; and, where it is none of these, the algorithm's own."""
    rows, policy = segment.trajectory, last.acting.policy  # type: ignore[union-attr]
    sampled = evaluation.critic
    if learner.following != "sampled":
        sampled = replace(learner, bootstrap="sampled").reevaluate(spec, params, segment, last, keys[0]).critic

    view, is_first, forgets = with_last(*((x.view, x.is_first, x.forgets) for x in (rows, last)))
    is_first = learner.critic_forgets(spec, is_first, forgets)
    before = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), segment.critic_carry, sampled.carries)

    def drawn(key: Array) -> Array:
        inputs = CriticInput(view=view, actions=policy.sample(key), own_slot=policy.own_slot)
        return learner.branch(spec, params.critic, inputs, is_first, before)

    state = jax.lax.map(drawn, jax.random.split(keys[1], draws)).mean(0)

    def valued(values: Array, following: Array) -> Evaluation:
        return replace(evaluation, critic=replace(evaluation.critic, values=values, next_values=following))

    kinds = {
        STATE: valued(state[:-1], state[1:]),
        PUBLISHED: valued(sampled.values, sampled.next_values),
        EXPECTED: valued(sampled.values, state[1:]),
    }
    return kinds | ({OWN: evaluation} if learner.following != "sampled" else {})


def signal_and_noise(gradients: Mapping[str, NDArray[np.floating]], steps: float) -> dict[str, Noise]:
    """What gradients of independent rollouts say of signal and noise.

    With g of rollout b, |G|^2 is estimated by the mean of g_b g_c over b != c, and the trace of the covariance by the
    mean of g_b g_b less that; the noise scale is `steps` times the second over the first.

    Args:
      gradients: kind of advantages -> [B, P], B of 2 or more, those of a rollout in the same row for all.
      steps: environment steps of a rollout.
    """
    first = next(iter(gradients))
    products = {(a, b): _products(gradients[a], gradients[b]) for a in gradients for b in dict.fromkeys((a, first))}

    def per_step(signal: Floats, power: Floats) -> Floats:
        """Signal over noise of a step's gradient, squared; not above 0 where no signal is found."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(signal == 0, 0.0, signal / (steps * (power - signal)))  # of no gradient at all: 0 / 0

    signals = {name: per_step(*products[name, name]) for name in gradients}
    errors = {name: 1.96 * _jackknife(x) for name, x in signals.items()}
    certain = {name for name in gradients if not signals[name][0] <= errors[name]}
    found = {}
    for name, x in signals.items():
        ends = tuple(float(1 / end) if end > 0 else np.inf for end in (x[0] + errors[name], x[0] - errors[name]))
        times, times_interval, direction = np.nan, (0.0, np.inf), np.nan
        if {name, first} <= certain:
            with np.errstate(invalid="ignore", divide="ignore"):
                logarithm = np.log(np.maximum(signals[first], 0)) - np.log(np.maximum(x, 0))
            times = float(np.exp(logarithm[0]))
            error = 1.96 * _jackknife(logarithm)
            times_interval = (float(times * np.exp(-error)), float(times * np.exp(error)))
            between, own, theirs = (products[pair][0][0] for pair in ((name, first), (name, name), (first, first)))
            direction = float(between / np.sqrt(own * theirs))
        found[name] = Noise(
            steps=float(1 / x[0]) if x[0] > 0 else np.inf,
            interval=(ends[0], ends[1]),
            times=times,
            times_interval=times_interval,
            direction=direction,
        )
    return found


def _products(left: NDArray[np.floating], right: NDArray[np.floating]) -> tuple[Floats, Floats]:
    """Means of g_b h_c over b != c, and of g_b h_b: of all B rows, then without each, [1 + B]."""
    gram = left.astype(np.float64) @ right.astype(np.float64).T
    rows, same = len(gram), np.diag(gram)
    total = np.concatenate([[gram.sum()], gram.sum() - gram.sum(0) - gram.sum(1) + same])
    equal = np.concatenate([[same.sum()], same.sum() - same])
    count = np.array([rows, *[rows - 1] * rows])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total - equal) / (count * (count - 1)), equal / count


def _jackknife(values: Floats) -> float:
    """The standard error of the first, of all rollouts, from the others, each without one of them."""
    without = values[1:]
    if np.isinf(values).all():  # no noise at all
        return 0.0
    error = np.sqrt((len(without) - 1) * np.mean((without - without.mean()) ** 2))
    return float(error) if np.isfinite(without).all() else np.inf


def of_experiment(
    experiment: Experiment, params: PerNetwork, *, number: int, place: int, updates: int, draws: int
) -> dict[str, Noise]:
    """`gradient_noise` of one seed of a run, by its place; `number` says which experience."""
    seeds = experiment.seeds
    key = seeds.of(seeds.keys(7, number), place)
    params = seeds.of(params, place)
    with experiment.precision():
        return gradient_noise(experiment.env, experiment.algorithm, params, key, updates=updates, draws=draws)

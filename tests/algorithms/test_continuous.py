"""Continuous actions: every algorithm that takes them learns, every other says so; their settings do something."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import ALGORITHMS, algorithm_called
from gpae.algorithms.base import Budget
from gpae.envs import Box
from gpae.envs.continuous_probes import Aim
from gpae.envs.probes import Team
from gpae.errors import UserError
from gpae.networks import ShownContinuousPolicy
from gpae.settings import as_arrays, settings_of
from gpae.training.config import configure
from gpae.training.evaluate import run_episodes
from reference.stages import Programs

TAKE = ["gpae", "gpae-state", "mappo", "ippo", "coma", "dae"]
TINY = {"num_envs": 4, "rollout_length": 4, "hidden_size": 4, "embedding_size": 4, "epochs": 1, "minibatches": 1}
BASE = {
    "num_envs": 32,
    "rollout_length": 8,
    "hidden_size": 16,
    "embedding_size": 16,
    "learning_rate": 1e-2,
    "actor_identity": True,
}
OTHER = {"action_scale": "state", "squash": True, "show_scale": True, "normalise_actions": True}


def traced(algorithm, **settings):
    """Shapes after an update, and the update as text."""
    chosen = as_arrays(configure(algorithm, **TINY | settings).algorithm)
    env, budget = Aim(), Budget(updates=10, gradient_steps=jnp.float32(100))

    def program(algorithm):
        return algorithm.update(env, algorithm.init(env, jax.random.key(0)), budget)

    found, shapes = jax.make_jaxpr(program, return_shape=True)(chosen)
    return shapes, f"{found} {found.consts}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_takes_continuous_actions_or_says_that_it_does_not(algorithm):
    chosen = algorithm_called(algorithm)()
    if algorithm in TAKE:
        chosen.fits(Aim().spec)
        (state, _), _ = traced(algorithm, window=2)
        assert state.window.segments.trajectory.actions.shape == (1, 4, 2, 3, 1)
        return
    with pytest.raises(UserError, match=f"{algorithm} needs discrete actions, .* probe/aim .*: gpae, gpae-state"):
        chosen.fits(Aim().spec)
    assert not settings_of(chosen).keys() & settings_of(ShownContinuousPolicy).keys()


@pytest.mark.slow
def test_settings_of_continuous_policies_change_the_update_and_are_refused_where_actions_are_discrete():
    texts = {traced("gpae", **changes)[1] for changes in ({}, *({name: value} for name, value in OTHER.items()))}
    assert len(texts) == 1 + len(settings_of(ShownContinuousPolicy)) == 5
    for name, value in OTHER.items():
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} .*: only continuous actions .* probe/team"):
            configure("gpae", **{name: value}).algorithm.fits(Team().spec)
    assert "show_scale" not in settings_of(algorithm_called("mappo"))  # its critic is shown nobody's actions
    with pytest.raises(UserError, match="probe/aim has no action called stop"):
        configure("gpae", stop_agent=1).algorithm.fits(Aim().spec)


@pytest.mark.parametrize("settings", [pytest.param({}, marks=pytest.mark.slow), OTHER], ids=["plain", "squashed"])
def test_fresh_experience_has_ratio_one_and_values_of_its_own_slots(settings):
    """In a box of other bounds. The batch's inputs give the values that the estimator took."""
    p = Programs(configure("gpae", **TINY | settings), Aim(low=-3.0, high=7.0))
    state, data = p.experience(p.init(jax.random.key(0)))
    trajectory, evaluation = data.segment.trajectory, data.evaluation
    assert evaluation.own_slot.shape[-1] == (2 if settings else 1)
    if settings:
        assert ((trajectory.actions >= -3) & (trajectory.actions <= 7)).all()

    @jax.jit
    def again(params, data):
        batch, carries = p.learner.batch(data)
        values = p.learner.criticise(params.critic, batch.inputs, batch.trajectory.is_first, carries.critic).values
        pi = p.learner.policy(params.actor, batch.trajectory, carries.actor)
        return batch, values, pi.log_prob(batch.evaluation.actions)

    batch, values, log_probs = again(state.params, data)
    np.testing.assert_allclose(values, batch.evaluation.critic.values, atol=1e-5)
    np.testing.assert_allclose(log_probs, batch.trajectory.log_probs, atol=2e-5)
    assert np.ptp(log_probs) > 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [("gpae", OTHER | {"window": 2, "normalise_actions": False}), ("dae", {"ensemble": 1})],
    ids=str,
)
def test_the_team_learns_to_aim(algorithm, settings):
    """Everybody within 0.1 of its target; by chance one episode in sixty."""
    p = Programs(configure(algorithm, **BASE | settings | {"total_steps": 60 * 256}), Aim())

    def run(key):
        state, _ = jax.lax.scan(lambda s, _: p.learner.update(s), p.learner.init(key), length=p.config.num_updates)
        actor = state.params.actor
        return run_episodes(p.learner.env, p.learner.algorithm, actor, key, jnp.ones(64, bool))

    assert jax.jit(run)(jax.random.key(1)).won.all()


@pytest.mark.slow
@pytest.mark.parametrize("normalise", [False, True])
def test_credit_of_a_standing_policy_is_the_probes_unless_its_critic_normalises_actions(normalise):
    """The critic alone is trained; then every agent's advantages are those of the docstring."""
    settings = {"clip_values": False, "normalise_actions": normalise, "total_steps": 100 * 256}
    p = Programs(configure("gpae", **BASE | settings), Aim())

    def run(key):
        first = p.learner.init(key)

        def update(state, _):
            state, metrics = p.learner.update(state)
            return state.replace(params=state.params.replace(actor=first.params.actor)), metrics

        state, _ = jax.lax.scan(update, first, length=p.config.num_updates)
        return p.learner.experience(state)[1]

    data = jax.jit(run)(jax.random.key(1))
    trajectory = data.segment.trajectory
    cue = trajectory.view.state[..., -1].astype(int)
    goals = np.stack([cue % 2, (cue + 1) % 2], axis=-1) - 0.5
    misses = trajectory.actions[..., :2, 0] - goals
    own = data.evaluation.own_slot[..., :2, 0] - goals
    rest = misses.sum(-1, keepdims=True) - misses
    # The scale is 1 when training begins.
    expected = -(misses**2 + (rest + misses) ** 2 - own**2 - (rest + own) ** 2 - 2) / 2
    expected = np.concatenate([expected, np.zeros_like(expected[..., :1])], axis=-1)
    error = np.sqrt(np.square(data.targets.advantages - expected).mean((0, 1)))
    spread = np.sqrt(np.square(expected).mean())
    assert (error > 0.5 * spread if normalise else error < 0.25 * spread).all(), (error, spread)


def test_boxes_of_other_bounds_are_learnt_in_their_own_units():
    spec = dataclasses.replace(Aim().spec, actions=Box(2, 0.0, 10.0))
    actor = configure("gpae").algorithm.actor(spec)
    assert (actor.low, actor.high, actor.num_actions) == (0.0, 10.0, 2)

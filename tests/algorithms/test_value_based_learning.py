"""Whole value-based learners on probes with known answers, those included that their mixers cannot give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import TimeoutIsTermination
from gpae.envs.probes import Delay, Memory, NonMonotone, Stay, Team, TwoStep
from gpae.training.config import configure
from gpae.training.evaluate import run_episodes
from reference.stages import Programs

pytestmark = pytest.mark.slow

BASE = {
    "num_envs": 8,
    "rollout_length": 8,
    "epochs": 4,
    "hidden_size": 16,
    "learning_rate": 1e-2,
    "max_grad_norm": 10.0,
    "actor_identity": True,
    "gamma": 0.9,
    "lambda_": 0.0,
    "epsilon_fraction": 0.5,
    "replay_segments": 100,
    "replay_sequences": 32,
    "target_period": 2,
}
MIXER = {"embedding_size": 16, "hypernet_size": 16}
EVEN = {"epsilon_start": 1.0, "epsilon_end": 0.95}
"""Exploration that stays all but even, for which the best fits are known."""


def learn(env, algorithm, updates, **settings):
    """Trains; returns the learner, its state, the last metrics and greedy episodes."""
    mixer = MIXER if algorithm == "qmix" else {}
    p = Programs(configure(algorithm, **BASE | mixer | {"total_steps": updates * 64} | settings), env)
    learner = p.learner

    @jax.jit
    def run(key):
        state, metrics = jax.lax.scan(lambda s, _: learner.update(s), learner.init(key), length=p.config.num_updates)
        episodes = run_episodes(env, learner.algorithm, state.params.actor, jax.random.key(9), jnp.ones(32, bool))
        return state, jax.tree.map(lambda x: x[-len(x) // 10 :].mean(), metrics), episodes

    return learner, *jax.device_get(run(jax.random.key(1)))


def team_values(learner, state):
    """Q_tot of every joint action of two agents in the first state, [A, A]."""
    env = learner.env
    view = jax.tree.map(lambda x: x[None, None], env.observe(env.reset(jax.random.key(0))))
    actor = learner.actor()
    carry = actor.initial_carry(1, 2)
    values, _ = actor.apply(state.params.actor, view.observations, jnp.ones((1, 1), bool), carry, method="logits")
    first, second = values[0, 0]
    pairs = jnp.stack(jnp.broadcast_arrays(first[:, None], second[None, :]), axis=-1)
    states = jnp.broadcast_to(view.state, (*pairs.shape[:2], view.state.shape[-1]))
    return np.asarray(learner.mix(state.params.critic, pairs, states)[..., 0])


@pytest.mark.parametrize("algorithm", ["vdn", "qmix", "iql"])
def test_every_method_solves_the_team_game(algorithm):
    *_, episodes = learn(Team(), algorithm, 80)
    assert episodes.won.all()


@pytest.mark.parametrize("algorithm", ["vdn", "qmix", "iql"])
def test_memory_is_learnt(algorithm):
    *_, episodes = learn(Memory(), algorithm, 150, rollout_length=16, num_envs=4)
    assert episodes.won.all()


def test_values_are_discounted():
    """gamma and 1 in turn: 0.95 on the mean."""
    _, _, metrics, _ = learn(Delay(), "vdn", 80)
    np.testing.assert_allclose(metrics["q_mean"], 0.95, atol=0.02)


@pytest.mark.parametrize("terminates", [False, True])
def test_what_lies_beyond_a_time_limit_decides_what_is_done(terminates):
    """Staying is worth 10 and leaving 5, unless the limit is taken for the end: then 2.71 at most."""
    env = TimeoutIsTermination(Stay()) if terminates else Stay()
    *_, episodes = learn(env, "vdn", 200, target_period=1)
    np.testing.assert_allclose(episodes.returns, 1.0 + 1.0 + 5.0 if terminates else 3.0)


# -- what a mixer can say ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["vdn", "qmix"])
def test_a_non_monotone_game_is_lost(algorithm):
    """The best is both playing 0, for 1; within 300 updates each method has its best fit, and plays 1 or 2, for 0."""
    learner, state, _, episodes = learn(NonMonotone(), algorithm, 300, recurrent=False, **EVEN)
    assert not episodes.won.any()
    assert (episodes.returns == 0.0).all()
    fit = {"vdn": (-11 / 9, -8 / 9, -5 / 9), "qmix": (-1.4, -1.4, 0.0)}[algorithm]
    expected = [[fit[(a > 0) + (b > 0)] for b in range(3)] for a in range(3)]
    np.testing.assert_allclose(team_values(learner, state), expected, atol=0.2)


@pytest.mark.parametrize(("algorithm", "reached"), [("vdn", 0.875), ("qmix", 1.0)])
def test_a_sum_takes_the_safe_game_and_qmix_the_better_one(algorithm, reached):
    *_, episodes = learn(TwoStep(), algorithm, 300, recurrent=False, **EVEN)
    np.testing.assert_allclose(episodes.returns, reached)

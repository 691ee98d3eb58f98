"""Credit of an episode, and the use that a critic makes of the others' actions, on probes with known answers."""

import jax
import numpy as np
import pytest

from gpae.diagnostics.credit import credited_episode, with_advantages
from gpae.diagnostics.critic_use import critic_use
from gpae.envs.probes import Death, Stay, Team
from gpae.errors import UserError
from gpae.training.config import configure
from reference import estimators as reference
from reference.stages import Programs

CONFIG = {
    "num_envs": 16,
    "rollout_length": 8,
    "hidden_size": 16,
    "embedding_size": 16,
    "learning_rate": 1e-2,
    "actor_identity": True,
    "gamma": 0.9,
}


def built(env, **settings):
    p = Programs(configure(**CONFIG | settings), env)
    return p, p.init(jax.random.key(0))


@pytest.mark.parametrize(
    ("env", "length", "terminated"), [(Death(length=5), 5, True), (Stay(length=3, prize=0.0), None, None)]
)
def test_an_episode_is_played_to_its_end_and_credited_by_the_estimator(env, length, terminated):
    p, state = built(env)
    episode = credited_episode(env, p.config.algorithm, state.params, jax.random.key(3))
    steps = len(episode.rewards)
    assert steps == length or (length is None and 1 <= steps <= env.spec.episode_limit)
    assert episode.alive.shape == (steps + 1, env.spec.num_agents)
    assert len(jax.tree.leaves(episode.states)[0]) == steps + 1
    assert episode.states.time.tolist() == list(range(steps + 1))  # the final state, not that of a new episode
    if terminated:  # GAE of the episode by itself, since it was played by the current policy
        values = np.asarray(episode.values, np.float64)
        following = np.concatenate([values[1:], np.zeros_like(values[:1])])
        ends = np.arange(steps) == steps - 1
        advantages, _ = reference.gpae(
            *(episode.rewards, values, following, ends, np.zeros(steps, bool), np.zeros_like(values)),
            gamma=0.9, lambda_=0.95,
        )  # fmt: skip
        np.testing.assert_allclose(episode.advantages, advantages, atol=1e-5)


def test_shuffling_the_others_actions_hurts_a_critic_that_uses_them_by_as_much_as_it_should():
    """The probe `Team` under the uniform policy: the error is 1/24 with the others' actions and 5/24 without."""
    p, state = built(Team(), entropy=10.0, learning_rate=3e-3, anneal=False, total_steps=40_000)
    before = critic_use(p.env, p.config.algorithm, state.params, jax.random.key(5), num_envs=2048)
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 150, lambda _, s: p.learner.update(s)[0], s))(state)
    found = critic_use(p.env, p.config.algorithm, state.params, jax.random.key(5), num_envs=2048)
    np.testing.assert_allclose(found["error"], 1 / 24, rtol=0.15)
    np.testing.assert_allclose(found["shuffled_error"], 5 / 24, rtol=0.15)
    assert found["explained_variance"] > 0.6
    assert found["shuffled_explained_variance"] < 0
    assert abs(before["ratio"] - 1) < 0.3


def test_a_critic_that_is_not_shown_the_actions_is_refused():
    with pytest.raises(UserError, match="nothing to shuffle"):
        critic_use(Team(), configure("mappo").algorithm, None, jax.random.key(0))


def test_a_method_without_advantages_is_refused():
    with pytest.raises(UserError, match="qmix learns values of actions"):
        with_advantages(configure("qmix").algorithm)

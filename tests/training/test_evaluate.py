"""Episodes that are played to judge a policy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from gpae.envs.probes import Stay, Team
from gpae.training.config import configure
from gpae.training.evaluate import run_episodes

ALGORITHM = configure(num_envs=4, rollout_length=4, hidden_size=8, embedding_size=8, actor_identity=True).algorithm


@functools.cache
def programs(env):
    """Parameters to play with, and how."""
    params = jax.jit(lambda key: ALGORITHM.init(env, key).params.actor)(jax.random.key(0))
    return params, jax.jit(functools.partial(run_episodes, env, ALGORITHM))


def played(env, greedy, key=0):
    params, play = programs(env)
    return play(params, jax.random.key(key), greedy)


def test_each_environment_counts_its_first_whole_episode_once():
    """Trap 12: sampled play of Stay ends at different steps; what comes after an episode's end counts nowhere."""
    episodes = played(Stay(length=6, prize=5.0), jnp.zeros(256, bool))
    lengths = np.asarray(episodes.lengths)
    assert lengths.min() == 1
    assert len(set(lengths.tolist())) > 2
    left = np.asarray(episodes.returns) != lengths  # reward 1 a step, 5 for leaving
    np.testing.assert_array_equal(np.asarray(episodes.returns)[left], lengths[left] - 1 + 5.0)
    assert (lengths[~left] == 6).all()


def test_greedy_and_sampled_are_apart_and_keys_matter():
    env = Team()
    mixed = played(env, jnp.arange(512) < 256)
    again = played(env, jnp.arange(512) < 256)
    other = played(env, jnp.arange(512) < 256, key=1)
    np.testing.assert_array_equal(mixed.returns, again.returns)
    assert (mixed.returns != other.returns).any()
    # An untrained greedy policy answers each of the two cues in one way; sampled play does not.
    assert len(np.unique(mixed.returns[:256])) <= 2
    assert len(np.unique(mixed.returns[256:])) == 3
    assert (mixed.won == (mixed.returns == 1.0)).all()


def test_states_of_the_first_episode_are_kept():
    episodes = played(Stay(length=6), jnp.zeros(8, bool))
    length = int(episodes.lengths[0])
    np.testing.assert_array_equal(episodes.states.time[: length + 1], np.arange(length + 1))

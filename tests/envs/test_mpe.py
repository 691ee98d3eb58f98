"""simple_spread equals JaxMARL's, in the shape of the protocol."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.errors import UserError


def test_equals_jaxmarl_and_is_truncated_at_its_limit():
    env = make("mpe/simple_spread")
    theirs, n = env.jaxmarl, env.spec.num_agents
    start_key, action_key, key = jax.random.split(jax.random.key(0), 3)
    script = jax.random.randint(action_key, (env.spec.episode_limit, n), 0, 5)
    keys = jax.random.split(key, env.spec.episode_limit)

    def ours(state, now):
        after, outcome = env.step(now[0], state, now[1])
        return after, (env.observe(state), outcome)

    def reference(carry, now):
        observations, state = carry
        actions = dict(zip(theirs.agents, now[1], strict=True))
        new, after, rewards, dones, _ = theirs.step_env(now[0], state, actions)
        stacked = jnp.stack([observations[agent] for agent in theirs.agents])
        return (new, after), (stacked, state, jnp.stack(list(rewards.values())), dones["__all__"])

    last, (view, outcome) = jax.jit(lambda s: jax.lax.scan(ours, s, (keys, script)))(env.reset(start_key))
    _, (observations, state, rewards, done) = jax.jit(lambda c: jax.lax.scan(reference, c, (keys, script)))(
        theirs.reset(start_key)
    )
    np.testing.assert_array_equal(view.observations, observations)
    np.testing.assert_array_equal(view.state[:, : 2 * n], state.p_vel[:, :n].reshape(-1, 2 * n))
    np.testing.assert_array_equal(view.state[:, 2 * n :], state.p_pos.reshape(-1, 4 * n))
    # A mean, which the two programs may add up in another order.
    np.testing.assert_allclose(outcome.reward, rewards.mean(axis=1), rtol=1e-6)
    assert (rewards.std(axis=1) > 0).any()
    np.testing.assert_array_equal(outcome.truncated, done)
    np.testing.assert_array_equal(outcome.truncated, np.arange(26) == 25)
    assert not outcome.terminated.any()
    assert not outcome.won.any()

    scene = env.scene(last)
    inside = np.abs(last.p_pos) <= 2
    np.testing.assert_allclose(scene.positions[inside] - 2.0, np.asarray(last.p_pos)[inside], atol=1e-6)
    assert scene.positions.min() >= 0
    assert (scene.positions <= np.array(scene.size)).all()
    assert scene.teams.tolist() == [0, 0, 0, 2, 2, 2]


def test_the_action_names_are_true():
    """Each action pushes the agent where its name says (west and south are towards smaller coordinates)."""
    env = make("mpe/simple_spread", num_agents=2)
    state = env.reset(jax.random.key(0))
    state = state.replace(p_pos=jnp.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    ways = {"stop": (0, 0), "west": (-1, 0), "east": (1, 0), "south": (0, -1), "north": (0, 1)}
    for action, name in enumerate(env.spec.action_names):
        after, _ = env.step(jax.random.key(1), state, jnp.array([action, 0], jnp.int32))
        np.testing.assert_array_equal(np.sign(after.p_vel[0]), ways[name])


@pytest.mark.parametrize("options", [{"num_agents": 1}, {"local_ratio": 1.5}, {"max_steps": 0}])
def test_options_out_of_range(options):
    with pytest.raises(UserError, match=next(iter(options))):
        make("mpe/simple_spread", **options)

"""Particle environments equal JaxMARL's, with moves and with forces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.envs._jaxmarl import PREDATORS, SimpleReferenceMPE, SimpleSpeakerListenerMPE, SimpleSpreadMPE
from gpae.envs.check import check
from gpae.envs.mpe import five_numbers
from gpae.errors import UserError

NAMES = ["simple_spread", "simple_reference", "simple_speaker_listener", "facmac_3a", "facmac_6a", "facmac_9a"]


CHECKED = [
    ("simple_spread", "continuous"),
    ("simple_reference", "continuous"),
    ("simple_speaker_listener", "discrete"),
    ("simple_speaker_listener", "continuous"),
    ("facmac_3a", "discrete"),
    ("facmac_9a", "continuous"),
]


@pytest.mark.parametrize(("name", "kind"), CHECKED)
def test_declared_is_what_comes(name, kind):
    env = make(f"mpe/{name}", actions=kind, max_steps=3)
    assert env.spec.name == f"mpe/{name}"
    assert env.spec.continuous is (kind == "continuous")
    check(env, steps=5)
    state = env.reset(jax.random.key(0))
    scene = env.scene(state)
    assert len(scene.positions) == len(scene.teams) == len(scene.labels) == len(scene.radii)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("simple_reference", SimpleReferenceMPE), ("simple_speaker_listener", SimpleSpeakerListenerMPE)],
)
def test_moves_and_words_are_jaxmarls(name, theirs):
    """Every action of ours against JaxMARL's own discrete one; what is observed, said and earned."""
    env, theirs = make(f"mpe/{name}"), theirs()
    state = env.reset(jax.random.key(0))
    number = env.spec.num_actions
    words = theirs.action_spaces[theirs.agents[0]].n
    actions = jnp.stack([jnp.arange(number) % words, jnp.arange(number)[::-1]], axis=-1).astype(jnp.int32)

    def both(actions):
        after, outcome = env.step(jax.random.key(1), state, actions)
        _, expected, rewards, *_ = theirs.step_env(
            jax.random.key(1), state, dict(zip(theirs.agents, actions, strict=True))
        )
        seen = theirs.get_obs(expected)
        return after, expected, env.observe(after).observations, seen, outcome.reward, rewards

    after, expected, ours, seen, reward, rewards = jax.jit(jax.vmap(both))(actions)
    for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6)
    for agent, who in enumerate(theirs.agents):
        size = seen[who].shape[-1]
        np.testing.assert_allclose(ours[:, agent, :size], seen[who], atol=1e-6)
        assert (ours[:, agent, size:] == 0).all()
    np.testing.assert_allclose(reward, np.mean(list(rewards.values()), axis=0), rtol=1e-5)


def test_a_force_pushes_as_far_as_it_is_strong_and_is_clipped():
    np.testing.assert_allclose(five_numbers(jnp.array([0.5, -2.0])), [0, 0, 0.5, 1, 0])
    env = make("mpe/simple_spread", actions="continuous", num_agents=2)
    state = env.reset(jax.random.key(0))
    state = state.replace(p_pos=jnp.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]))
    pushed = [
        env.step(jax.random.key(1), state, jnp.array([[x, -x / 2], [0.0, 0.0]]))[0].p_vel[0] for x in (0.25, 1.0, 7.0)
    ]
    np.testing.assert_allclose(pushed[0] * 4, pushed[1], rtol=1e-5)
    np.testing.assert_allclose(pushed[1] * jnp.array([1.0, 2.0]), pushed[2], rtol=1e-5)
    theirs = SimpleSpreadMPE(num_agents=2, num_landmarks=2)
    east, stop = jnp.int32(2), jnp.int32(0)
    _, after, *_ = theirs.step_env(jax.random.key(1), state, dict(zip(theirs.agents, (east, stop), strict=True)))
    np.testing.assert_allclose(pushed[1][0], after.p_vel[0, 0], rtol=1e-5)


def test_predators_are_rewarded_for_touching_the_prey():
    env = make("mpe/facmac_3a", actions="continuous")
    state = env.reset(jax.random.key(0))
    apart = jnp.array([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [2.0, 2.0], [-2.0, 2.0]])
    reward = jax.jit(lambda p: env.step(jax.random.key(1), state.replace(p_pos=p), jnp.zeros((3, 2)))[1].reward)
    assert reward(apart) == 0
    assert reward(apart.at[:2].set(apart[3])) == 20
    assert env.spec.num_agents == 3
    assert [PREDATORS[size]().num_good_agents for size in ("3a", "6a", "9a")] == [1, 2, 3]


def test_options_out_of_range_are_refused():
    for name in NAMES[1:]:
        with pytest.raises(UserError, match="max_steps must be at least 1"):
            make(f"mpe/{name}", max_steps=0)

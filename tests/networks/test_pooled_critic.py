"""studies/pooled_critic.py: what it is shown, and that it makes no difference between agents."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.networks import CriticInput, CriticSizes
from gpae.training.config import configure
from gpae.types import View
from reference.stages import Programs

T, E, N, A, O = 2, 3, 4, 3, 5
IS_FIRST = jnp.zeros((T, E), bool)


def critic(pooled_critics, **fields):
    """Parameters, what is seen -> values; and parameters."""
    module = sys.modules[pooled_critics["gpae-pooled"].__module__]
    sizes = CriticSizes(hidden_size=8, embedding_size=8, recurrent=False)
    network = module.PooledCritic(N, sizes, **fields)
    params = jax.jit(network.init)(jax.random.key(1), inputs(), IS_FIRST, ())
    return jax.jit(lambda params, seen: network.apply(params, seen, IS_FIRST, ())), params


def inputs():
    keys = jax.random.split(jax.random.key(0), 3)
    view = View(
        observations=jax.random.normal(keys[0], (T, E, N, O)),
        state=jnp.zeros((T, E, 1)),
        action_mask=jnp.ones((T, E, N, A), bool),
        alive=jnp.ones((T, E, N), bool),
    )
    actions = jax.random.randint(keys[1], (T, E, N), 0, A)
    return CriticInput(view=view, actions=actions, own_slot=jax.nn.softmax(jax.random.normal(keys[2], (T, E, N, A))))


def test_an_agents_value_does_not_see_its_own_action_but_every_others(pooled_critics):
    apply, params = critic(pooled_critics, expected=True)
    seen = inputs()
    before, after = (
        apply(params, seen.replace(actions=x))
        for x in (seen.actions, seen.actions.at[..., 1].set((seen.actions[..., 1] + 1) % A))
    )
    np.testing.assert_allclose(after.values[..., 1], before.values[..., 1], rtol=1e-5, atol=1e-6)
    assert (np.abs(np.delete(after.values - before.values, 1, axis=-1)) > 1e-5).all()
    np.testing.assert_array_equal(after.expected, before.expected)
    shown = seen.replace(own_slot=jnp.roll(seen.own_slot, 1, axis=-1))
    assert (np.abs(apply(params, shown).values - before.values) > 1e-5).all()


def test_agents_that_change_places_change_values(pooled_critics):
    apply, params = critic(pooled_critics, expected=True)
    seen, order = inputs(), np.array([2, 0, 3, 1])
    view = seen.view.replace(observations=seen.view.observations[..., order, :])
    moved = CriticInput(view=view, actions=seen.actions[..., order], own_slot=seen.own_slot[..., order, :])
    before, after = apply(params, seen), apply(params, moved)
    np.testing.assert_allclose(after.values, before.values[..., order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after.expected, before.expected, rtol=1e-4, atol=1e-5)


def test_that_of_a_value_sees_no_action(pooled_critics):
    apply, params = critic(pooled_critics, joint_action=False)
    seen = inputs()
    found = apply(params, seen)
    assert found.expected is None
    others = seen.replace(actions=(seen.actions + 1) % A, own_slot=jnp.roll(seen.own_slot, 1, axis=-1))
    np.testing.assert_array_equal(apply(params, others).values, found.values)
    assert np.ptp(found.values, axis=-1).max() == 0.0


@pytest.mark.parametrize("name", ["gpae-pooled", "mappo-pooled"])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_they_learn_as_any_algorithm_of_ones_own(pooled_critics, name, recurrent, normalised):
    """Nothing is run. An update takes and gives the same shapes."""
    sizes = {"hidden_size": 8, "embedding_size": 8, "recurrent": recurrent}
    sizes |= {"normalise_observations": normalised, "normalise_values": normalised}
    sizes["share_parameters"] = "true" if normalised else "critic"  # statistics are a team's
    more = {"bootstrap": "expected"} if name == "gpae-pooled" else {}
    config = configure(pooled_critics[name](), num_envs=4, rollout_length=8, chunk_length=8, **sizes)
    p = Programs(config.replace(**more), make("teamwork/4"))
    before = jax.eval_shape(p.learner.init, jax.random.key(0))
    kept = {str(key) for path, _ in jax.tree_util.tree_leaves_with_path(before) for key in path}
    assert {"['observations']", "['values']"} <= kept if normalised else not {"['values']"} & kept
    after, _ = jax.eval_shape(p.learner.update, before)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(lambda x: (x.shape, x.dtype), after)


def test_settings_that_it_does_not_look_at_are_said_to_be_idle(pooled_critics):
    for cls in pooled_critics.values():
        assert {"critic_identity", "normalise_state"} <= cls().idle().keys()

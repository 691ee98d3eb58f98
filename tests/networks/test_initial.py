"""Initial weights as flax draws them where nothing else is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.envs import make
from gpae.networks import Actor, NetworkSizes, UnsharedActor, lecun
from gpae.settings import replaced
from gpae.training.config import configure

KEY = jax.random.key(3)


def leaves(params):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_kernels_alone_are_drawn_anew_with_a_variance_of_one_over_their_inputs():
    actor = Actor(60, NetworkSizes(hidden_size=48, actor_layers=2))
    seen = (jnp.zeros((1, 2, 3, 40)), jnp.ones((1, 2, 3, 60), bool), jnp.ones((1, 2), bool), jnp.zeros((2, 3, 48)))
    params = jax.jit(actor.init)(KEY, *seen)
    before, after = leaves(params), leaves(jax.jit(lecun)(params, KEY))
    kernels = [name for name in before if name.endswith("['kernel']")]
    assert len(kernels) == 3
    for name, leaf in after.items():
        assert (leaf.shape, leaf.dtype) == (before[name].shape, before[name].dtype)
        if name not in kernels:
            np.testing.assert_array_equal(leaf, before[name])
            continue
        inputs, scaled = leaf.shape[0], np.asarray(leaf) * np.sqrt(leaf.shape[0])
        assert abs(scaled.std() - 1) < 0.06, name  # of some 2,000 numbers: four standard errors
        assert np.abs(scaled).max() < 2.3, inputs  # cut off at two, then made wider again
    assert not np.array_equal(after[kernels[0]][:40, :8], after[kernels[1]][:40, :8])


def test_networks_that_are_not_shared_have_kernels_of_their_own():
    actor = UnsharedActor(Actor(5, NetworkSizes(hidden_size=64, recurrent=False)), (0, 1, 2))
    seen = (jnp.zeros((1, 2, 3, 64)), jnp.ones((1, 2, 3, 5), bool), jnp.ones((1, 2), bool), ())
    params = leaves(jax.jit(lambda key: lecun(actor.init(key, *seen), key))(KEY))
    kernels = {name: np.asarray(leaf) for name, leaf in params.items() if name.endswith("['kernel']")}
    assert len(kernels) == 3
    for name, leaf in kernels.items():
        assert leaf.shape[0] == 3
        assert abs(leaf.std() * 8 - 1) < 0.1, name
        assert not np.array_equal(leaf[0], leaf[1])


@pytest.mark.parametrize("name", ["gpae", "mappo", "dae", "dop"])
def test_a_learner_begins_with_other_kernels_of_actor_and_critic(name):
    env = make("probe/team", num_agents=3)
    small = {"num_envs": 2, "rollout_length": 4, "hidden_size": 8, "embedding_size": 8, "minibatches": 1}
    if name == "dop":
        small |= {"replay_segments": 2, "replay_sequences": 2}
    algorithm = configure(name, **small).algorithm
    both = (algorithm, replaced(algorithm, {"initial_weights": "lecun"}))
    ours, theirs = jax.jit(lambda: [a.init(env, KEY).params for a in both])()
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, theirs)
    for network in ("actor", "critic"):
        before, after = leaves(getattr(ours, network)), leaves(getattr(theirs, network))
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        assert changed == {path for path in before if path.endswith("['kernel']")}
    # The policy's last layer, which is where it begins undecided.
    before, after = (
        next(x for path, x in leaves(params.actor).items() if path.endswith("['kernel']") and x.shape[-1] == 2)
        for params in (ours, theirs)
    )
    assert np.abs(after).max() > 10 * np.abs(before).max()

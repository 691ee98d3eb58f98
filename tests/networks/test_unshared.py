import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.networks import (
    Actor,
    ContinuousActor,
    Critic,
    CriticInput,
    CriticSizes,
    NetworkSizes,
    QNetwork,
    RealActions,
    UnsharedActor,
    UnsharedCritic,
    owners,
)
from gpae.types import View

T, E, N, A, D, S, O, H = 3, 2, 4, 5, 2, 7, 6, 8
EACH, PAIRS = (0, 1, 2, 3), (0, 1, 1, 0)
IS_FIRST = jnp.zeros((T, E), bool).at[0].set(True).at[2, 1].set(True)


def normal(number, *shape):
    return jax.random.normal(jax.random.key(number), shape)


def seen(real=False):
    view = View(
        observations=normal(0, T, E, N, O),
        state=5 + 3 * normal(1, T, E, S),
        action_mask=jax.random.bernoulli(jax.random.key(2), 0.7, (T, E, N, A)).at[..., 0].set(True),
        alive=jnp.ones((T, E, N), bool),
    )
    if real:
        return CriticInput(view=view, actions=2 * normal(3, T, E, N, D), own_slot=normal(4, T, E, N, D))
    actions = jax.random.randint(jax.random.key(3), (T, E, N), 0, A)
    return CriticInput(view=view, actions=actions, own_slot=jax.nn.softmax(2 * normal(4, T, E, N, A)))


def noisy(params, count):
    """`count` networks' parameters as training leaves them, [count, ...]: no scale is 1, no shift is 0, all differ."""
    leaves, tree = jax.tree.flatten(params)
    return jax.tree.unflatten(tree, [x + 0.2 * normal(10 + k, count, *x.shape) for k, x in enumerate(leaves)])


def check(unshared, shared, params, run, of_agent):
    """Each agent hears its own network; with equal parameters, the gradients of an owner's agents add up.

    Args:
      unshared, shared: the networks.
      params: of one network.
      run: network, params -> a tree of outputs.
      of_agent: a tree of outputs, number -> that agent's.
    """
    whose = unshared.owners

    def loss(network, params):
        outputs = jax.tree.leaves(run(network, params))
        return sum(jnp.sum(x * jnp.sin(1.0 + jnp.arange(x.size)).reshape(x.shape)) for x in outputs)

    @jax.jit
    def compute(several, one, equal):
        alone = jax.vmap(lambda params: run(shared, params))(several)
        apart, together = jax.grad(loss, argnums=1)(unshared, equal), jax.grad(loss, argnums=1)(shared, one)
        return run(unshared, several), alone, apart, together

    several = noisy(params, max(whose) + 1)
    one = jax.tree.map(lambda x: x[0], several)
    equal = jax.tree.map(lambda x: jnp.stack([x] * (max(whose) + 1)), one)
    outputs, alone, apart, together = compute(several, one, equal)
    for agent, owner in enumerate(whose):
        expected = jax.tree.map(lambda x, owner=owner: x[owner], alone)
        for x, y in zip(*map(jax.tree.leaves, (of_agent(outputs, agent), of_agent(expected, agent))), strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)
    for (path, x), y in zip(jax.tree.leaves_with_path(together), jax.tree.leaves(apart), strict=True):
        assert np.abs(x).max() > 0, path
        np.testing.assert_allclose(y.sum(0), x, atol=2e-5 * max(float(jnp.abs(x).max()), 1.0), err_msg=str(path))


@pytest.mark.parametrize(
    ("shown", "options", "whose"),
    [
        ("joint_action", {"expected": True}, PAIRS),
        ("joint_action", {"box": RealActions(-3.0, 5.0, True)}, EACH),
        ("others_actions", {"outputs": A}, EACH),
        ("observation", {}, EACH),
    ],
    ids=str,
)
def test_each_agent_hears_its_own_critic_and_equal_ones_share_a_gradient_exactly(shown, options, whose):
    inputs = seen(real="box" in options)
    critic = Critic(shown, N, CriticSizes(hidden_size=H, embedding_size=H), **options)
    unshared = UnsharedCritic(critic, whose)
    carry = normal(5, *critic.initial_carry(E).shape)
    assert unshared.initial_carry(E).shape == carry.shape
    params = jax.jit(critic.init)(jax.random.key(0), inputs, IS_FIRST, carry)

    def run(network, params):
        found = network.apply(params, inputs, IS_FIRST, carry)
        return [x for x in found if x is not None]

    check(unshared, critic, params, run, lambda found, agent: [x[:, :, agent] for x in found])


IDENTITY = NetworkSizes(hidden_size=H, actor_identity=True)


@pytest.mark.parametrize(
    ("actor", "whose"),
    [
        (Actor(A, IDENTITY), EACH),
        (ContinuousActor(D, NetworkSizes(hidden_size=H, recurrent=False)), PAIRS),
    ],
    ids=["with index", "continuous, of pairs, without memory"],
)
def test_each_agent_follows_its_own_actor_and_equal_ones_share_a_gradient_exactly(actor, whose):
    view, unshared = seen().view, UnsharedActor(actor, whose)
    mask = view.action_mask[..., : actor.num_actions]
    continuous = isinstance(actor, ContinuousActor)
    actions = normal(6, T, E, N, D) * mask if continuous else jnp.argmax(mask, axis=-1)
    carry = jax.tree.map(lambda x: normal(5, *x.shape), actor.initial_carry(E, N))
    params = jax.jit(actor.init)(jax.random.key(0), view.observations, mask, IS_FIRST, carry)

    def run(network, params):
        policy, carries = network.apply(params, view.observations, mask, IS_FIRST, carry)
        return [policy.log_prob(actions), policy.entropy(), carries]

    check(unshared, actor, params, run, lambda found, agent: jax.tree.map(lambda x: x[:, :, agent], found))


def test_values_of_actions_are_those_of_each_agents_own_network():
    view, network = seen().view, QNetwork(A, IDENTITY)
    unshared, carry = UnsharedActor(network, EACH), network.initial_carry(E, N)
    params = jax.jit(unshared.init)(jax.random.key(0), view.observations, view.action_mask, IS_FIRST, carry)
    one = jax.eval_shape(network.init, jax.random.key(0), view.observations, view.action_mask, IS_FIRST, carry)
    assert jax.tree.map(lambda x: x.shape, params) == jax.tree.map(lambda x: (N, *x.shape), one)

    def logits(network):
        return jax.jit(lambda params: network.apply(params, view.observations, IS_FIRST, carry, method="logits")[0])

    values, of_one = logits(unshared)(params), logits(network)
    for agent in range(N):
        own = of_one(unshared.of_agent(params, agent))
        np.testing.assert_allclose(values[:, :, agent], own[:, :, agent], atol=1e-5)
    assert np.abs(values[:, :, 0] - own[:, :, 0]).max() > 0.01  # agents begin with different parameters


def test_agents_of_one_type_share_and_those_of_different_types_do_not():
    types = ("marine", "medic", "marine")
    assert owners("true", 3, types) is None
    assert owners("type", 3, types) == (0, 1, 0)
    assert owners("type", 3, ("marine",) * 3) is None
    assert owners("false", 3, None) == (0, 1, 2)

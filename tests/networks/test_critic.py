import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gpae.networks import Critic, CriticInput, CriticSizes, RealActions, Shown
from gpae.networks import critic as critics
from gpae.networks.layers import ORTHOGONAL, finish
from gpae.types import View

T, E, N, A, S, O = 3, 2, 4, 5, 7, 6
H, M = 8, 6


def inputs(seed=0, probs=None):
    keys = jax.random.split(jax.random.key(seed), 4)
    return seen(
        10 * jax.random.normal(keys[0], (T, E, S)) + 5,
        jax.random.normal(keys[1], (T, E, N, O)),
        jax.random.randint(keys[2], (T, E, N), 0, A),
        jax.nn.softmax(3 * jax.random.normal(keys[3], (T, E, N, A))) if probs is None else probs,
    )


def seen(states, observations, actions, probs):
    mask, alive = jnp.ones(probs.shape, bool), jnp.ones(actions.shape, bool)
    view = View(observations=observations, state=states, action_mask=mask, alive=alive)
    return CriticInput(view=view, actions=actions, own_slot=probs)


IS_FIRST = jnp.zeros((T, E), bool).at[0].set(True).at[2, 1].set(True)


class _Plain(nn.Module):
    """LayerNorm and dense as flax has them, with the parameters of `embeddings._NormedDense`."""

    inputs: int
    features: int
    layer_norm: bool

    def setup(self):
        if self.layer_norm:
            self.scale = self.param("scale", nn.initializers.ones_init(), (self.inputs,))
            self.shift = self.param("shift", nn.initializers.zeros_init(), (self.inputs,))
        self.kernel = self.param("kernel", ORTHOGONAL, (self.inputs, self.features))
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))

    def __call__(self, x):
        if self.layer_norm:
            norm = nn.LayerNorm(parent=None)
            x = norm.apply({"params": {"scale": self.scale, "bias": self.shift}}, x)
        return x @ self.kernel + self.bias


def naive_modules():
    """The embeddings written as method.md defines them: every agent's whole input is built. Quadratic in N."""
    _NormedDense = type("_NormedDense", (_Plain,), {})

    class StateEmbedding(nn.Module):
        features: int
        num_agents: int
        identity: bool
        layer_norm: bool

        @nn.compact
        def __call__(self, states, agent=None):
            x = states[..., None, :]
            if self.identity:
                x = jnp.broadcast_to(x, (*states.shape[:-1], self.num_agents, states.shape[-1]))
                eye = jnp.broadcast_to(jnp.eye(self.num_agents), (*x.shape[:-1], self.num_agents))
                x = jnp.concatenate([x, eye], axis=-1)
            return finish(_NormedDense(x.shape[-1], self.features, self.layer_norm)(x), self.layer_norm)

    class JointActionEmbedding(nn.Module):
        features: int
        layer_norm: bool
        own_slot: bool = True
        box: RealActions = RealActions()

        @nn.compact
        def __call__(self, actions, probs, agent=None):
            *batch, n, a = probs.shape
            norm = self.layer_norm
            if actions.ndim == probs.ndim:
                norm, d = norm and self.box.normalise, actions.shape[-1]
                middle, half = (self.box.low + self.box.high) / 2, (self.box.high - self.box.low) / 2
                taken = jnp.concatenate([(actions - middle) / half, jnp.zeros((*batch, n, a - d))], axis=-1)
                probs = jnp.concatenate([(probs[..., :d] - middle) / half, probs[..., d:] / half], axis=-1)
            else:
                taken = jax.nn.one_hot(actions, a)
            probs = probs if self.own_slot else jnp.zeros_like(probs)
            others = jnp.broadcast_to(taken[..., None, :, :], (*batch, n, n, a))
            own = jnp.eye(n, dtype=bool)[:, :, None]
            x = jnp.where(own, probs[..., None, :, :], others).reshape(*batch, n, n * a)
            return finish(_NormedDense(n * a, self.features, norm)(x), self.layer_norm)

    return StateEmbedding, JointActionEmbedding


def real(shown):
    """Actions of three numbers far from 0, and own slots that show a mean, or a mean and a scale."""
    x = inputs()
    slots = shown if shown.shape[-1] == 3 else jnp.concatenate([shown[..., :3], jnp.exp(shown[..., 3:])], axis=-1)
    return x.replace(actions=4 + 3 * jax.random.normal(jax.random.key(5), (T, E, N, 3)), own_slot=slots)


def build(shown, outputs=1, example=None, normalise=False, **sizes):
    chosen = CriticSizes(hidden_size=H, embedding_size=M, **sizes)
    box = RealActions(-3.0, 5.0, normalise)
    critic = Critic(shown=shown, num_agents=N, sizes=chosen, outputs=outputs, box=box)
    carry = critic.initial_carry(E)
    params = jax.jit(critic.init)(jax.random.key(1), inputs() if example is None else example, IS_FIRST, carry)
    # Parameters as training leaves them: no scale is 1, no shift is 0.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return critic, jax.tree.unflatten(tree, leaves), carry


@pytest.mark.parametrize(
    "options",
    [
        {"shown": "joint_action"},
        {"shown": "joint_action", "critic_identity": False},
        {"shown": "joint_action", "layer_norm": False},
        {"shown": "others_actions", "outputs": A},
        {"shown": "state"},
        {"shown": "state", "critic_identity": False},
    ],
    ids=str,
)
def test_equals_the_naive_critic_and_so_do_its_gradients(options, monkeypatch):
    check_against_the_naive_one(
        options, lambda x: inputs(probs=jax.nn.softmax(x)), jnp.log(inputs().own_slot), monkeypatch
    )


@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({"shown": "joint_action"}, 3),
        ({"shown": "joint_action", "normalise": True}, 3),
        ({"shown": "joint_action", "normalise": True}, 6),
        ({"shown": "joint_action", "layer_norm": False}, 6),
        ({"shown": "others_actions", "normalise": True}, 3),
    ],
    ids=str,
)
def test_equals_the_naive_critic_where_actions_are_real_numbers(options, width, monkeypatch):
    shown = 2 * jax.random.normal(jax.random.key(6), (T, E, N, width)) - 1
    check_against_the_naive_one(options, real, shown, monkeypatch)


def check_against_the_naive_one(options, make, shown, monkeypatch):
    critic, params, carry = build(example=make(shown), **options)

    def loss(params, shown):
        values = critic.apply(params, make(shown), IS_FIRST, carry).values
        return jnp.sum(jnp.sin(jnp.arange(values.size)).reshape(values.shape) * values), values

    def evaluate():
        # A new function each time: the modules that it finds are not those of the last trace.
        return jax.jit(jax.value_and_grad(lambda *x: loss(*x), argnums=(0, 1), has_aux=True))(params, shown)

    (_, values), gradients = evaluate()
    state_embedding, joint_embedding = naive_modules()
    monkeypatch.setattr(critics, "StateEmbedding", state_embedding)
    monkeypatch.setattr(critics, "JointActionEmbedding", joint_embedding)
    (_, naive_values), naive_gradients = evaluate()

    np.testing.assert_allclose(values, naive_values, rtol=0, atol=1e-5 * np.abs(naive_values).max())
    largest = max(np.abs(x).max() for x in jax.tree.leaves(naive_gradients))
    for lean, naive in zip(jax.tree.leaves(gradients), jax.tree.leaves(naive_gradients), strict=True):
        np.testing.assert_allclose(lean, naive, rtol=0, atol=1e-5 * largest)


def test_memory_grows_linearly_with_the_team():
    def temporary_bytes(num_agents):
        critic = Critic("joint_action", num_agents, CriticSizes(hidden_size=H, embedding_size=M))
        x = seen(
            jnp.zeros((T, E, S)),
            jnp.zeros((T, E, num_agents, 1)),
            jnp.zeros((T, E, num_agents), jnp.int32),
            jnp.zeros((T, E, num_agents, A)),
        )
        carry = critic.initial_carry(E)
        params = jax.eval_shape(critic.init, jax.random.key(0), x, IS_FIRST, carry)
        compiled = jax.jit(lambda p, x: critic.apply(p, x, IS_FIRST, carry)[0]).lower(params, x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = temporary_bytes(16), temporary_bytes(64)
    assert large < 6 * small  # 16 times, were it quadratic


@pytest.mark.parametrize("shown", ["joint_action", "seen_and_joint_action"])
def test_own_action_is_not_seen_but_the_others_actions_are(shown):
    critic, params, carry = build(shown=shown)
    x, apply = inputs(), jax.jit(critic.apply)
    values = apply(params, x, IS_FIRST, carry).values
    other = x.replace(actions=x.actions.at[0, :, 1].set((x.actions[0, :, 1] + 1) % A))
    changed = apply(params, other, IS_FIRST, carry).values
    moved = np.abs(changed - values)[0].max(axis=0)
    assert moved[1] < 1e-5
    assert (moved[[0, 2, 3]] > 1e-3).all()


def test_what_an_agent_sees_stands_for_the_state():
    critic, params, carry = build(shown="seen_and_joint_action")
    x, apply = inputs(), jax.jit(critic.apply)
    values = apply(params, x, IS_FIRST, carry).values
    elsewhere = x.replace(view=x.view.replace(state=-x.view.state))
    np.testing.assert_array_equal(apply(params, elsewhere, IS_FIRST, carry).values, values)
    seen = x.replace(view=x.view.replace(observations=x.view.observations.at[0, :, 1].multiply(-1.0)))
    moved = np.abs(apply(params, seen, IS_FIRST, carry).values - values)[0].max(axis=0)
    assert moved[1] > 1e-3
    np.testing.assert_array_equal(moved[[0, 2, 3]], 0.0)


def test_values_per_action_do_not_see_the_own_action_nor_the_policy():
    critic, params, carry = build(shown="others_actions", outputs=A)
    x, apply = inputs(), jax.jit(critic.apply)
    values = apply(params, x, IS_FIRST, carry).values
    assert values.shape == (T, E, N, A)
    other = x.replace(actions=x.actions.at[0, :, 1].set((x.actions[0, :, 1] + 1) % A))
    changed = apply(params, other, IS_FIRST, carry).values
    moved = np.abs(changed - values)[0].max(axis=(0, 2))
    assert moved[1] < 1e-5
    assert (moved[[0, 2, 3]] > 1e-3).all()
    again = apply(params, inputs(probs=jnp.full((T, E, N, A), 1 / A)), IS_FIRST, carry).values
    np.testing.assert_array_equal(again, values)


def test_a_state_critic_without_identity_is_evaluated_once():
    critic, params, carry = build(shown="state", critic_identity=False)
    values, carries, _ = jax.jit(critic.apply)(params, inputs(), IS_FIRST, carry)
    assert critic.rows == 1
    assert carries.shape == (T, E, 1, H)
    np.testing.assert_array_equal(values, np.broadcast_to(values[..., :1], (T, E, N)))


@pytest.mark.parametrize("kind", typing.get_args(Shown))
def test_strict_promotion(kind, strict):
    def evaluate():
        critic, params, carry = build(shown=kind)
        return critic.apply(params, inputs(), IS_FIRST, carry).values

    values = jax.eval_shape(evaluate)  # promotion is a matter of tracing
    assert values.shape == (T, E, N)
    assert values.dtype == jnp.float32

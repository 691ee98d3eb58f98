import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from gpae.networks import Actor, NetworkSizes
from gpae.networks.gru import GRU, GRUWeights, recur

T, E, N, O, A, H = 6, 2, 3, 4, 5, 8


@pytest.fixture(scope="module")
def sequence():
    gru = GRU(H)
    x = jax.random.normal(jax.random.key(0), (T, E, N, O))
    is_first = jnp.zeros((T, E), bool).at[3, 0].set(True)
    carry = jax.random.normal(jax.random.key(1), (E, N, H))
    params = jax.jit(gru.init)(jax.random.key(2), x, is_first, carry)
    params = jax.tree.map(lambda p: p + 0.1, params)
    return jax.jit(gru.apply), params, x, is_first, carry


def test_equals_the_cell_of_flax(sequence):
    apply, params, x, _, carry = sequence
    ours = params["params"]
    cell = {}
    for i, gate in enumerate("rzn"):
        part = slice(i * H, (i + 1) * H)
        cell[f"i{gate}"] = {"kernel": ours["w"][:, part], "bias": ours["b"][part]}
        cell[f"h{gate}"] = {"kernel": ours["u"][:, part]}
    cell["hn"]["bias"] = ours["c"]
    h, expected, step = carry, [], jax.jit(nn.GRUCell(H).apply)
    for t in range(T):
        h, _ = step({"params": cell}, h, x[t])
        expected.append(h)
    carries = apply(params, x, jnp.zeros((T, E), bool), carry)
    np.testing.assert_allclose(carries, jnp.stack(expected), atol=1e-6)


def test_every_gate_begins_with_an_orthogonal_recurrent_kernel():
    """Trap 13: one orthogonal [H, 3 H] matrix has singular values of .57 per gate, and carry fades twice as fast."""
    x, is_first, carry = jnp.zeros((1, 1, 4)), jnp.zeros((1, 1), bool), jnp.zeros((1, 64))
    kernel = jax.jit(GRU(64).init)(jax.random.key(3), x, is_first, carry)["params"]["u"]
    gates = [kernel[:, i * 64 : (i + 1) * 64] for i in range(3)]
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(64), atol=1e-5)
    assert not np.allclose(gates[0], gates[1], atol=0.01)


def test_memory_is_reset_where_an_episode_starts_and_nowhere_else(sequence):
    apply, params, x, is_first, carry = sequence
    carries = apply(params, x, is_first, carry)
    unbroken = apply(params, x, jnp.zeros_like(is_first), carry)
    fresh = apply(params, x[3:], jnp.zeros_like(is_first[3:]), jnp.zeros_like(carry))
    np.testing.assert_allclose(carries[3:, 0], fresh[:, 0], atol=1e-6)
    np.testing.assert_allclose(carries[:, 1], unbroken[:, 1], atol=1e-6)
    assert np.abs(carries[3:, 0] - unbroken[3:, 0]).max() > 1e-3


@pytest.mark.parametrize("on_accelerator", [False, True])
@pytest.mark.parametrize("rows", [T, 1])
def test_the_backward_pass_equals_automatic_differentiation(rows, on_accelerator, strict, monkeypatch):
    monkeypatch.setattr("gpae.networks.gru.accelerated", lambda: on_accelerator)

    def plain(weights, inputs, is_first, carry):
        def step(h, row):
            x, start = row
            h = jnp.where(start[:, None], 0.0, h)
            x_r, x_z, x_n = jnp.split(x @ weights.w + weights.b[None], 3, axis=-1)
            u_r, u_z, u_n = jnp.split(h @ weights.u, 3, axis=-1)
            r, z = nn.sigmoid(x_r + u_r), nn.sigmoid(x_z + u_z)
            n = jnp.tanh(x_n + r * (u_n + weights.c[None]))
            h = (1.0 - z) * n + z * h
            return h, h

        return jax.lax.scan(step, carry, (inputs, is_first))[1]

    keys = iter(jax.random.split(jax.random.key(0), 8))
    weights = GRUWeights(*(jax.random.normal(next(keys), shape) for shape in ((O, 3 * H), (3 * H,), (H, 3 * H), (H,))))
    inputs, carry, direction = (jax.random.normal(next(keys), shape) for shape in ((rows, E, O), (E, H), (rows, E, H)))
    is_first = jnp.zeros((rows, E), bool).at[rows // 2, 1].set(True)

    def gradients(function):
        def total(weights, inputs, carry):
            return jnp.sum(function(weights, inputs, is_first, carry) * direction)

        return jax.jit(jax.value_and_grad(total, (0, 1, 2)))(weights, inputs, carry)

    for ours, theirs in zip(jax.tree.leaves(gradients(recur)), jax.tree.leaves(gradients(plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recurrent", [True, False])
def test_an_actor_unrolled_at_once_equals_row_by_row(recurrent, strict):
    actor = Actor(A, NetworkSizes(hidden_size=H, recurrent=recurrent, actor_identity=True))
    x = jax.random.normal(jax.random.key(0), (T, E, N, O))
    legal = jax.random.bernoulli(jax.random.key(1), 0.5, (T, E, N, A)).at[..., 0].set(True)
    is_first = jnp.zeros((T, E), bool).at[2, 1].set(True)
    carry = actor.initial_carry(E, N)
    params, apply = jax.jit(actor.init)(jax.random.key(2), x, legal, is_first, carry), jax.jit(actor.apply)
    whole, _ = apply(params, x, legal, is_first, carry)
    for t in range(T):
        row, carries = apply(params, x[t : t + 1], legal[t : t + 1], is_first[t : t + 1], carry)
        carry = jax.tree.map(lambda m: m[0], carries)
        np.testing.assert_allclose(row.log_probs[0], whole.log_probs[t], atol=1e-5)
    assert (whole.own_slot[~legal] == 0).all()

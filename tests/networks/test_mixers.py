"""The mixers against their formulas written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.networks import IdentityMixer, MonotoneMixer, SumMixer

N, S, K, H = 3, 5, 4, 6


def made(kind, layer_norm=True):
    """A mixer, its parameters moved away from where they begin, values [2, 7, N] and states [2, 7, S]."""
    monotone = MonotoneMixer(embedding_size=K, hypernet_size=H, layer_norm=layer_norm)
    mixer = {"identity": IdentityMixer(), "sum": SumMixer(), "monotone": monotone}[kind]
    keys = jax.random.split(jax.random.key(0), 4)
    values = 2.0 * jax.random.normal(keys[0], (2, 7, N))
    states = jax.random.normal(keys[1], (2, 7, S))
    params = jax.jit(mixer.init)(keys[2], values, states)
    params = jax.tree.map(lambda x: x + 0.5 * jax.random.normal(keys[3], x.shape), params)
    return mixer, params, values, states


def written_out(params, values, states, layer_norm):
    """QMIX's mixer for one state in NumPy, agent by agent and unit by unit: Q_tot and dQ_tot / dQ^i."""
    p = jax.tree.map(np.asarray, params["params"])

    def linear(name, x):
        return x @ p[name]["kernel"] + p[name]["bias"]

    def made_by(name):
        return linear(name, np.maximum(linear(f"{name}_hidden", s), 0))

    s = states
    if layer_norm:
        s = (s - s.mean()) / np.sqrt(s.var() + 1e-6) * p["state_norm"]["scale"] + p["state_norm"]["bias"]
    weights, last, bias = np.abs(made_by("first")), np.abs(made_by("second")), linear("bias", s)
    total, slopes = float(made_by("value")[0]), np.zeros(N)
    for k in range(K):
        x = bias[k] + sum(weights[i * K + k] * values[i] for i in range(N))
        total += last[k] * (x if x > 0 else np.exp(x) - 1)
        for i in range(N):
            slopes[i] += last[k] * (1.0 if x > 0 else np.exp(x)) * weights[i * K + k]
    return total, slopes


@pytest.mark.parametrize("layer_norm", [True, False])
def test_the_monotone_mixer_is_its_formula(layer_norm, strict):
    """Agent i's value enters by its own weights alone, and never with a negative one."""
    mixer, params, values, states = made("monotone", layer_norm)
    mixed = jax.jit(mixer.apply)(params, values, states)
    slopes = jax.jit(jax.grad(lambda v: mixer.apply(params, v, states).sum()))(values)
    assert mixed.shape == (2, 7, 1)
    for t in range(2):
        for c in range(7):
            total, expected = written_out(params, np.asarray(values[t, c]), np.asarray(states[t, c]), layer_norm)
            np.testing.assert_allclose(mixed[t, c, 0], total, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(slopes[t, c], expected, rtol=1e-4, atol=1e-5)
    assert np.asarray(slopes).min() >= 0
    assert np.ptp(np.asarray(slopes).mean((0, 1))) > 0.1  # the agents' weights differ: a mix-up would show
    assert np.ptp(np.asarray(slopes)[..., 0]) > 0.1  # and depend on the state


def test_the_sum_is_the_sum_and_identity_does_nothing(strict):
    for kind in ("sum", "identity"):
        mixer, params, values, states = made(kind)
        assert not jax.tree.leaves(params)
        expected = values.sum(-1, keepdims=True) if kind == "sum" else values
        np.testing.assert_array_equal(mixer.apply(params, values, states), expected)


@pytest.mark.parametrize("kind", ["identity", "sum", "monotone"])
def test_what_is_best_for_each_is_best_for_the_team(kind):
    mixer, params, values, states = made(kind)
    mix = jax.jit(mixer.apply)
    assert (mix(params, values + jnp.arange(1.0, N + 1.0), states) > mix(params, values, states)).all()


def test_mixing_begins_near_the_sum():
    """dQ_tot / dQ^i is of the order of 1."""
    mixer = MonotoneMixer(embedding_size=64, hypernet_size=256, layer_norm=True)
    states, values = jax.random.normal(jax.random.key(0), (64, 30)), jnp.zeros((64, 10))

    @jax.jit
    def slopes(key):
        params = mixer.init(key, values, states)
        return jax.grad(lambda v: mixer.apply(params, v, states).sum())(values)

    assert 0.2 < float(slopes(jax.random.key(1)).mean()) < 5.0

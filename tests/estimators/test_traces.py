"""Trace coefficients against a table made by hand, a float64 reference, and what they must reduce to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.estimators import TRACES, gpae, importance_traces
from gpae.estimators.traces import own_weights
from reference import estimators as reference

compiled = jax.jit(importance_traces, static_argnames="trace")

BOUNDED = ("none", "st", "it", "dt")

# Ratios of two agents at two steps, and what each trace makes of them for lambda = 0.8, eta = 1.25.
RATIOS = [[0.5, 4.0], [2.0, 0.25]]
TABLE = {
    "none": [[0.8, 0.8], [0.8, 0.8]],
    "st": [[0.8, 0.8], [0.4, 0.4]],
    "it": [[0.4, 0.8], [0.8, 0.2]],
    "dt": [[0.5, 0.8], [0.4, 0.25]],
    "others": [[0.5, 1.6], [0.4, 0.25]],
}


@pytest.mark.parametrize("trace", TRACES)
def test_table_made_by_hand(trace, strict):
    traces = compiled(jnp.log(jnp.array(RATIOS)), trace=trace, lambda_=0.8, eta=1.25)
    np.testing.assert_allclose(traces, TABLE[trace], rtol=1e-6)


def test_own_cap_cuts_the_own_ratio_alone(strict):
    log_ratios = jnp.log(jnp.array(RATIOS))
    traces = compiled(log_ratios, trace="others", lambda_=0.8, eta=1.25, own_cap=1.5)
    # rho^i = 4 and 2 become 1.5; the others' products beside them are 0.5 and 0.25.
    np.testing.assert_allclose(traces, [[0.5, 0.6], [0.3, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(own_weights(log_ratios), [[0.5, 1], [1, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(own_weights(log_ratios, own_weight="exact"), RATIOS, rtol=1e-6)
    capped = own_weights(log_ratios, own_weight="exact", own_cap=1.5)
    np.testing.assert_allclose(capped, [[0.5, 1.5], [1.5, 0.25]], rtol=1e-6)


@pytest.mark.parametrize("trace", TRACES)
def test_on_policy_every_scheme_is_lambda(trace):
    traces = compiled(jnp.zeros((4, 2, 3)), trace=trace, lambda_=0.7)
    np.testing.assert_allclose(traces, 0.7, rtol=1e-7)


def test_double_truncation_lies_below_single_truncation_and_tends_to_it():
    log_ratios = np.random.default_rng(0).normal(size=(50, 3, 4)).astype(np.float32)
    st = compiled(log_ratios, trace="st", lambda_=0.9)
    dt = compiled(log_ratios, trace="dt", lambda_=0.9, eta=1.05)
    assert (dt <= st).all()
    own, others = log_ratios, log_ratios.sum(-1, keepdims=True) - log_ratios
    differ = (others > np.log(1.05)) & (own < -np.log(1.05))
    assert 0 < differ.sum() < differ.size
    np.testing.assert_array_equal(np.asarray(dt < st), differ)
    for large in (1e9, np.inf):
        np.testing.assert_array_equal(compiled(log_ratios, trace="dt", lambda_=0.9, eta=large), st)


def test_others_with_infinite_eta_is_the_per_decision_trace():
    log_ratios = np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)
    traces = compiled(log_ratios, trace="others", lambda_=0.9, eta=np.inf)
    expected = np.broadcast_to(0.9 * np.exp(log_ratios.sum(-1, keepdims=True)), traces.shape)
    np.testing.assert_allclose(traces, expected, rtol=2e-6)


def wide_log_ratios(rows=1024, agents=27):
    """Float32 log-ratios up to +-20; in half of the rows they cancel, after partial sums of up to 260."""
    rng = np.random.default_rng(2)
    free = rng.uniform(-20, 20, size=(rows // 2, agents))
    up = rng.uniform(15, 20, size=(rows // 2, agents // 2))
    rest = rng.uniform(-1, 1, size=(rows // 2, agents - 2 * (agents // 2)))
    down = np.maximum(-up + rng.normal(scale=0.1, size=up.shape), -20)
    return np.stack([free, np.concatenate([up, down, rest], 1)], 1).reshape(rows, agents).astype(np.float32)


@pytest.mark.parametrize("trace", BOUNDED)
def test_precision_at_log_ratios_of_twenty_and_27_agents(trace):
    log_ratios = wide_log_ratios()
    traces = compiled(log_ratios, trace=trace, lambda_=0.95)
    assert traces.dtype == jnp.float32
    np.testing.assert_allclose(traces, reference.traces(log_ratios, trace=trace, lambda_=0.95), rtol=0, atol=1e-6)


@pytest.mark.parametrize("trace", BOUNDED)
def test_half_precision_at_log_ratios_of_seventy(trace):
    """Multiples of 2^-10 of what is above 64 are beyond float16, and infinite less infinite is NaN."""
    log_ratios = np.array([[-70.0, 0.5, 69.5]], np.float16)
    traces = compiled(log_ratios, trace=trace, lambda_=0.95)
    assert traces.dtype == jnp.float16
    np.testing.assert_allclose(traces, reference.traces(log_ratios, trace=trace, lambda_=0.95), atol=1e-3)


def test_a_plain_float32_sum_would_not_be_precise_enough():
    log_ratios = wide_log_ratios()
    plain = np.add.accumulate(log_ratios, axis=-1)[:, -1:]
    assert plain.dtype == np.float32
    traces = 0.95 * np.exp(np.minimum(plain, 0))
    exact = reference.traces(log_ratios, trace="st", lambda_=0.95)
    assert np.abs(traces - exact).max() > 1e-5 * 0.95


@pytest.mark.parametrize("trace", BOUNDED)
@pytest.mark.parametrize("log_ratio", [20, -20, 1e30, np.inf, -np.inf])
def test_bounded_schemes_stay_in_zero_to_lambda(trace, log_ratio):
    log_ratios = np.full((2, 27), log_ratio, np.float32)
    log_ratios[1, ::2] *= -1
    traces = np.asarray(compiled(log_ratios, trace=trace, lambda_=0.9, eta=1.05))
    assert ((traces >= 0) & (traces <= np.float32(0.9))).all()


def test_an_impossible_own_action_ends_the_trace_and_nan_is_not_hidden():
    log_ratios = np.array([[-np.inf, 0.0, 0.5]], np.float32)
    for trace in ("st", "dt", "others"):
        assert compiled(log_ratios, trace=trace, lambda_=1.0)[0, 0] < 1e-30
    assert np.isnan(compiled(np.full((1, 2), np.nan, np.float32), trace="dt", lambda_=1.0)).all()


@pytest.mark.parametrize(
    ("changed", "error", "named"),
    [
        ({"log_ratios": np.zeros((3, 2), np.int32)}, TypeError, "log_ratios"),
        ({"log_ratios": np.zeros(3, np.float32)}, ValueError, "log_ratios"),
        ({"trace": "dtt"}, ValueError, r"unknown trace 'dtt'; did you mean 'dt'"),
        ({"lambda_": 1.1}, ValueError, r"lambda_ must be in \[0, 1\], got 1.1"),
        ({"lambda_": float("nan")}, ValueError, "lambda_"),
        ({"lambda_": np.ones(2, np.float32)}, ValueError, "lambda_ must be a scalar"),
        ({"eta": 0.99}, ValueError, "eta must be at least 1, got 0.99"),
        ({"own_cap": 0.5}, ValueError, "own_cap must be at least 1"),
    ],
)
def test_wrong_arguments_are_named_at_trace_time(changed, error, named):
    arguments = {"log_ratios": np.zeros((3, 2), np.float32), "trace": "dt", "lambda_": 0.9} | changed
    log_ratios = arguments.pop("log_ratios")
    with pytest.raises(error, match=named):
        jax.eval_shape(lambda x: importance_traces(x, **arguments), log_ratios)


def test_unknown_own_weight_is_named():
    with pytest.raises(ValueError, match="unknown own_weight 'exactly'; did you mean 'exact'"):
        own_weights(np.zeros((3, 2), np.float32), own_weight="exactly")


def test_infinite_ratios_make_no_nan_of_an_advantage_of_zero():
    """Uncapped, the product of two agents' ratios at +80 is beyond float32; 0 times an infinite trace was NaN."""
    zeros, ends = np.zeros((3, 2), np.float32), np.zeros(3, bool)
    for log_ratio in (80.0, np.inf):
        log_ratios = np.full((3, 2), log_ratio, np.float32)
        traces = compiled(log_ratios, trace="others", lambda_=0.9, eta=np.inf)
        np.testing.assert_allclose(traces, 0.9 * np.exp(80.0), rtol=1e-5)
        options = {"gamma": 0.9, "lambda_": 0.9, "trace": "others", "eta": np.inf, "own_weight": "exact"}
        targets = gpae(zeros[:, 0], zeros, zeros, ends, ends, log_ratios, **options)
        np.testing.assert_array_equal(targets.advantages, 0.0)
        np.testing.assert_array_equal(targets.critic_targets, 0.0)


# ---- an eta for every place -----------------------------------------------------------------------------------------


def test_etas_of_steps_and_agents_by_hand(strict):
    log_ratios = jnp.log(jnp.array(RATIOS))
    # rho^-i = [4, 0.5] and [0.25, 2]: where it is below every eta, eta does not matter.
    steps = compiled(log_ratios, trace="dt", lambda_=0.8, eta=jnp.array([[1.0], [1.5]]))
    np.testing.assert_allclose(steps, [[0.4, 0.8], [0.4, 0.3]], rtol=1e-6)
    agents = compiled(log_ratios, trace="dt", lambda_=0.8, eta=jnp.array([1.5, 1.0]))
    np.testing.assert_allclose(agents, [[0.6, 0.8], [0.4, 0.2]], rtol=1e-6)
    each = compiled(log_ratios, trace="others", lambda_=0.8, eta=jnp.array([[2.0, 1.0], [1.0, jnp.inf]]))
    np.testing.assert_allclose(each, [[0.8, 1.6], [0.4, 0.4]], rtol=1e-6)


@pytest.mark.parametrize("trace", ["dt", "others"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (6, 1, 1), (1, 2, 1), (6, 2, 3)])
def test_a_constant_array_of_etas_is_the_scalar_bit_for_bit(trace, shape, strict):
    log_ratios = np.random.default_rng(3).normal(scale=0.7, size=(6, 2, 3)).astype(np.float32)
    for eta in (1.0, 1.05, np.inf):
        expected = compiled(log_ratios, trace=trace, lambda_=0.9, eta=eta)
        found = compiled(log_ratios, trace=trace, lambda_=0.9, eta=jnp.full(shape, eta))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("trace", ["dt", "others"])
@pytest.mark.parametrize("shape", [(6, 1, 1), (3,), (6, 2, 3)])
def test_an_eta_for_every_place_equals_the_double_loop(trace, shape, strict):
    rng = np.random.default_rng(4)
    log_ratios = rng.normal(size=(6, 2, 3)).astype(np.float32)
    etas = rng.uniform(1.0, 3.0, shape).astype(np.float32)
    found = compiled(log_ratios, trace=trace, lambda_=0.9, eta=etas)
    everywhere = np.broadcast_to(etas, log_ratios.shape)
    for e in range(2):
        slow = reference.traces(log_ratios[:, e], trace=trace, lambda_=0.9, eta=everywhere[:, e])
        np.testing.assert_allclose(found[:, e], slow, rtol=2e-6)


def test_etas_are_traced_without_recompilation_and_may_be_whole_numbers():
    log_ratios, compilations = np.ones((4, 2), np.float32), compiled._cache_size()
    for etas in ([[1.0], [2.0], [3.0], [4.0]], [[4.0], [3.0], [2.0], [1.0]]):
        found = compiled(log_ratios, trace="others", lambda_=1.0, eta=np.array(etas, np.float32))
        np.testing.assert_allclose(found, np.e * np.minimum(np.e, etas) * np.ones(2), rtol=1e-6)
    assert compiled._cache_size() == compilations + 1
    whole = importance_traces(log_ratios, trace="others", lambda_=1.0, eta=np.array([1, 2]))
    np.testing.assert_allclose(whole[0], np.e * np.array([1.0, 2.0]), rtol=1e-6)


@pytest.mark.parametrize("shape", [(2,), (4, 3), (5, 4, 3), (1, 5, 1, 3), (0,)])
def test_an_eta_that_does_not_broadcast_is_named_traced_or_not(shape):
    log_ratios = np.zeros((5, 1, 3), np.float32)
    named = r"eta must broadcast to \(5, 1, 3\), got shape"
    with pytest.raises(ValueError, match=named):
        importance_traces(log_ratios, trace="it", lambda_=0.9, eta=np.ones(shape))
    with pytest.raises(ValueError, match=named):
        compiled(log_ratios, trace="it", lambda_=0.9, eta=np.ones(shape))


@pytest.mark.parametrize("wrong", [0.99, -np.inf, np.nan])
def test_an_eta_below_one_anywhere_is_named(wrong):
    with pytest.raises(ValueError, match=f"eta must be at least 1, got {wrong}"):
        importance_traces(np.zeros((5, 3), np.float32), trace="dt", lambda_=0.9, eta=np.array([1.5, wrong, 2.0]))

"""GPAE and GAE against tables made by hand, a slow NumPy reference, and what they must reduce to."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from gpae.estimators import TRACES, advantage_gap, gae, gpae
from reference import estimators as reference

T, E, N = 12, 4, 3
RTOL = 2e-6  # float32, relative to the largest value


def experience(seed=0, shape=(T, E, N), spread=0.5, reward_per_agent=False):
    """Arguments of `gpae`, float32, with episodes that end in both ways."""
    rng = np.random.default_rng(seed)
    draw = lambda shape, scale=1.0: rng.normal(scale=scale, size=shape).astype(np.float32)  # noqa: E731
    terminated = rng.random(shape[:-1]) < 0.15
    return {
        "rewards": draw(shape if reward_per_agent else shape[:-1]),
        "values": draw(shape),
        "next_values": draw(shape),
        "terminated": terminated,
        "truncated": ~terminated & (rng.random(shape[:-1]) < 0.15),
        "log_ratios": draw(shape, spread),
    }


def on_policy(arguments):
    return arguments | {"log_ratios": np.zeros_like(arguments["log_ratios"])}


def without_ratios(arguments):
    return {name: x for name, x in arguments.items() if name != "log_ratios"}


def assert_close(actual, expected, rtol=RTOL):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * np.abs(expected).max())


def by_environment(function, arguments):
    """The reference for each environment in turn."""
    results = [
        function(**{name: x[:, e] for name, x in arguments.items()}) for e in range(arguments["values"].shape[1])
    ]
    return jax.tree.map(lambda *xs: np.stack(xs, axis=1), *results)


compiled_gpae = jax.jit(gpae, static_argnames=("trace", "own_weight"))


def compiled(arguments, gamma=0.9, lambda_=0.8, eta=1.05, own_cap=np.inf, trace="dt", own_weight="truncated"):
    """All hyperparameters are handed over as values, so that the tests share few programs."""
    options = {"eta": eta, "own_cap": own_cap, "trace": trace, "own_weight": own_weight}
    return compiled_gpae(**arguments, gamma=gamma, lambda_=lambda_, **options)


compiled_gae = jax.jit(gae)


# ---- by hand -------------------------------------------------------------------------------------------------------


def test_table_made_by_hand(strict):
    # Ratios as in test_traces.py at rows 1 and 2: dt gives 0.5, 0.8 and 0.4, 0.25. Discount 0.5.
    targets = gpae(
        rewards=jnp.array([1.0, 1.0, 1.0]),
        values=jnp.array([[1.0, 0.0], [2.0, 2.0], [3.0, 0.0]]),
        next_values=jnp.array([[2.0, 2.0], [3.0, 0.0], [8.0, 2.0]]),
        terminated=jnp.zeros(3, bool),
        truncated=jnp.zeros(3, bool),
        log_ratios=jnp.log(jnp.array([[1.0, 1.0], [0.5, 4.0], [2.0, 0.25]])),
        gamma=0.5,
        lambda_=0.8,
        eta=1.25,
    )
    # delta = [[1, 2], [0.5, -1], [2, 2]]; A_1 = delta_1 + 0.5 c_2 A_2 with c_2 of row 2: with row 1's it would be 1.0.
    advantages = [[1 + 0.5 * 0.5 * 0.9, 2 - 0.5 * 0.8 * 0.75], [0.9, -0.75], [2.0, 2.0]]
    np.testing.assert_allclose(targets.advantages, advantages, rtol=1e-6)
    np.testing.assert_allclose(targets.critic_targets, [[2.225, 1.7], [2.45, 1.25], [5.0, 0.5]], rtol=1e-6)


# How row 0 and row 1 end, and the advantages. The last row is the window's end: bootstrap, nothing to trace.
ENDINGS = {
    "go on": ([False, False], [False, False], [8.5625, 30.25, -7.0]),
    "terminated": ([True, False], [False, False], [-9.0, 30.25, -7.0]),  # no bootstrap, no trace
    "truncated": ([False, False], [True, True], [1.0, 32.0, -7.0]),  # a bootstrap, no trace
    "both": ([True, False], [True, False], [-9.0, 30.25, -7.0]),  # termination wins
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("estimator", [gae, partial(gpae, log_ratios=np.zeros((3, 1), np.float32))])
def test_endings_made_by_hand(ending, estimator):
    terminated, truncated, expected = ENDINGS[ending]
    targets = estimator(
        rewards=np.array([1, 2, 3], np.float32),
        values=np.array([[10], [20], [30]], np.float32),
        next_values=np.array([[20], [100], [40]], np.float32),
        terminated=np.array([*terminated, False]),
        truncated=np.array([*truncated, False]),
        gamma=0.5,
        lambda_=0.5,
    )
    np.testing.assert_allclose(targets.advantages[:, 0], expected)


def test_what_follows_a_termination_is_not_read():
    arguments = experience(seed=3)
    clean = compiled(arguments)
    arguments["next_values"] = np.where(arguments["terminated"][..., None], np.nan, arguments["next_values"])
    poisoned = compiled(arguments)
    np.testing.assert_array_equal(clean.advantages, poisoned.advantages)


# ---- the slow reference --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trace", "reward_per_agent"), [*((trace, False) for trace in TRACES), ("dt", True)])
def test_equals_the_double_loop(trace, reward_per_agent):
    arguments = experience(seed=1, reward_per_agent=reward_per_agent)
    options = {"trace": trace, "eta": 1.1, "own_cap": 2.0}
    for own_weight in ("truncated", "exact"):
        options["own_weight"] = own_weight
        slow = partial(reference.gpae, gamma=0.9, lambda_=0.8, **options)
        advantages, critic_targets = by_environment(slow, arguments)
        targets = compiled(arguments, **options)
        assert_close(targets.advantages, advantages)
        assert_close(targets.critic_targets, critic_targets)


@pytest.mark.parametrize("trace", ["dt", "others"])
@pytest.mark.parametrize("shape", [(T, 1, 1), (N,), (1, E, 1), (T, E, N)])
def test_an_eta_for_every_place_equals_the_double_loop(trace, shape):
    arguments = experience(seed=15, spread=1.0)
    etas = np.random.default_rng(16).uniform(1.0, 3.0, shape).astype(np.float32)
    etas.flat[0] = np.inf
    found = compiled(arguments, trace=trace, eta=etas)
    everywhere = np.broadcast_to(etas, (T, E, N))
    for e in range(E):
        columns = {name: x[:, e] for name, x in arguments.items()}
        slow = reference.gpae(**columns, gamma=0.9, lambda_=0.8, trace=trace, eta=everywhere[:, e])
        assert_close(found.advantages[:, e], slow[0])
        assert_close(found.critic_targets[:, e], slow[1])
    constant = compiled(arguments, trace=trace, eta=np.full(shape, 1.05, np.float32))
    jax.tree.map(np.testing.assert_array_equal, constant, compiled(arguments, trace=trace, eta=1.05))
    assert np.abs(found.advantages - constant.advantages).max() > 0.01


def test_gae_equals_its_sum():
    arguments = without_ratios(experience(seed=2))
    targets = compiled_gae(**arguments, gamma=0.9, lambda_=0.8)
    assert_close(targets.advantages, by_environment(partial(reference.gae, gamma=0.9, lambda_=0.8), arguments))
    np.testing.assert_array_equal(targets.critic_targets, arguments["values"] + targets.advantages)


@pytest.mark.parametrize("trace", ["none", "st", "it", "dt"])
def test_bounded_schemes_keep_their_precision(trace):
    """1024 rows, 27 agents, log-ratios up to +-20 that cancel in half of the rows."""
    arguments = experience(seed=4, shape=(1024, 27))
    rng = np.random.default_rng(5)
    log_ratios = rng.uniform(-20, 20, size=(1024, 27))
    log_ratios[::2, :13] = rng.uniform(15, 20, size=(512, 13))
    log_ratios[::2, 13:26] = np.maximum(-log_ratios[::2, :13] + rng.normal(scale=0.1, size=(512, 13)), -20)
    log_ratios[::2, 26] = rng.uniform(-1, 1, size=512)
    arguments["log_ratios"] = log_ratios.astype(np.float32)
    for gamma, lambda_ in ((0.99, 0.95), (1.0, 1.0)):
        targets = compiled(arguments, gamma, lambda_, trace=trace)
        advantages, critic_targets = reference.gpae(**arguments, gamma=gamma, lambda_=lambda_, trace=trace)
        assert_close(targets.advantages, advantages, rtol=1e-5)
        assert_close(targets.critic_targets, critic_targets, rtol=1e-5)


# ---- what it reduces to --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", TRACES)
@pytest.mark.parametrize("own_weight", ["truncated", "exact"])
def test_on_policy_every_scheme_is_gae(trace, own_weight):
    arguments = on_policy(experience(seed=6))
    expected = compiled_gae(**without_ratios(arguments), gamma=0.9, lambda_=0.8)
    targets = compiled(arguments, trace=trace, own_weight=own_weight)
    assert_close(targets.advantages, expected.advantages)
    assert_close(targets.critic_targets, expected.critic_targets)


@pytest.mark.parametrize("trace", ["st", "it", "dt"])
def test_one_agent_off_policy_is_vtrace(trace):
    arguments = experience(seed=7, shape=(T, E, 1), spread=1.0)
    per_team = {name: x[..., 0] if x.ndim == 3 else x for name, x in arguments.items()}
    expected = by_environment(partial(reference.vtrace, gamma=0.9, lambda_=0.8), per_team)
    assert_close(compiled(arguments, trace=trace).critic_targets[..., 0], expected)


def test_infinite_eta_is_single_truncation():
    arguments = experience(seed=8)
    dt, st = compiled(arguments, trace="dt", eta=np.inf), compiled(arguments, trace="st")
    np.testing.assert_array_equal(dt.advantages, st.advantages)
    assert np.abs(compiled(arguments, trace="dt", eta=1.05).advantages - st.advantages).max() > 0.01


@pytest.mark.parametrize("trace", TRACES)
def test_lambda_zero_is_one_step(trace):
    arguments = experience(seed=9)
    bootstrap = np.where(arguments["terminated"][..., None], 0, arguments["next_values"])
    one_step = arguments["rewards"][..., None] + np.float32(0.9) * bootstrap - arguments["values"]
    assert_close(compiled(arguments, lambda_=0.0, trace=trace).advantages, one_step)


# ---- shapes and transformations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_any_batch_axes(batch, strict):
    arguments = experience(seed=10)
    whole = compiled(arguments)
    shaped = {name: x.reshape(T, 2, 2, *x.shape[2:]) if batch else x[:, 0] for name, x in arguments.items()}
    targets = compiled(shaped)
    expected = whole.advantages.reshape(T, 2, 2, N) if batch else whole.advantages[:, 0]
    assert_close(targets.advantages, expected)


def test_half_precision_beside_ratios_in_single():
    arguments = experience(seed=3)
    half = {name: jnp.asarray(arguments[name], jnp.bfloat16) for name in ("rewards", "values", "next_values")}
    settings = {"gamma": 0.9, "lambda_": 0.8, "trace": "dt"}
    found, whole = gpae(**arguments | half, **settings), gpae(**arguments, **settings)
    np.testing.assert_allclose(np.asarray(found.advantages, np.float32), whole.advantages, atol=0.15)


def test_a_teams_reward_beside_ends_of_each_agent():
    arguments = experience(seed=4)
    del arguments["log_ratios"]
    each = {name: np.repeat(arguments[name][..., None], N, axis=-1) for name in ("terminated", "truncated")}
    settings = {"gamma": 0.9, "lambda_": 0.8}
    found, teams = gae(**arguments | each, **settings), gae(**arguments, **settings)
    np.testing.assert_array_equal(found.advantages, teams.advantages)


def test_gae_of_a_team_value():
    arguments = without_ratios(experience(seed=11))
    team = arguments | {name: arguments[name][..., 0] for name in ("values", "next_values")}
    expected = compiled_gae(**arguments, gamma=0.9, lambda_=0.8).advantages[..., 0]
    assert_close(compiled_gae(**team, gamma=0.9, lambda_=0.8).advantages, expected)


def test_sharded_over_environments_it_is_the_same():
    arguments = experience(seed=12)
    mesh = jax.make_mesh((4,), ("env",), axis_types=(AxisType.Auto,))
    by_env = PartitionSpec(None, "env")
    sharded = jax.jit(jax.shard_map(compiled, mesh=mesh, in_specs=by_env, out_specs=by_env))(arguments)
    assert len(sharded.advantages.sharding.device_set) == 4
    assert_close(sharded.advantages, np.asarray(compiled(arguments).advantages))
    assert_close(sharded.critic_targets, np.asarray(compiled(arguments).critic_targets))


def test_hyperparameters_are_traced_without_recompilation_and_vmap():
    arguments = experience(seed=13)
    traced = 0

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0, 0, 0))
    def settings(arguments, gamma, lambda_, eta):
        nonlocal traced
        traced += 1
        return gpae(**arguments, gamma=gamma, lambda_=lambda_, eta=eta).advantages

    settings(arguments, jnp.array([0.5, 0.6]), jnp.array([0.5, 0.6]), jnp.array([1.2, 1.3]))
    both = settings(arguments, jnp.array([0.9, 1.0]), jnp.array([0.8, 0.0]), jnp.array([1.05, 1.0]))
    assert traced == 1
    assert_close(both[0], np.asarray(compiled(arguments, 0.9, 0.8, eta=1.05).advantages))
    assert_close(both[1], np.asarray(compiled(arguments, 1.0, 0.0, eta=1.0).advantages))


def test_gradients_flow_and_are_finite():
    arguments = experience(seed=14)
    arguments["log_ratios"][0] = 20
    arguments["log_ratios"][1, :, 0] = -20

    def total(values, log_ratios):
        return compiled(arguments | {"values": values, "log_ratios": log_ratios}).advantages.sum()

    for gradient in jax.grad(total, argnums=(0, 1))(arguments["values"], arguments["log_ratios"]):
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() > 0


# ---- wrong arguments -----------------------------------------------------------------------------------------------

WRONG = [
    ({"rewards": np.zeros((5, 2), np.int32)}, TypeError, "rewards must be floating, got int32"),
    ({"rewards": np.zeros((5, 3), np.float32)}, ValueError, "rewards must have shape"),
    ({"rewards": np.zeros((5, 2, 1), np.float32)}, ValueError, "rewards must have shape"),
    ({"values": np.zeros((5, 2, 3), np.int32)}, TypeError, "values must be floating"),
    ({"next_values": np.zeros((6, 2, 3), np.float32)}, ValueError, "next_values must have shape"),
    ({"terminated": np.zeros((5, 2), np.float32)}, TypeError, "terminated must be bool, got float32"),
    ({"terminated": np.zeros((5, 1), bool)}, ValueError, "terminated must have shape"),
    ({"truncated": np.zeros((5, 2), np.int32)}, TypeError, "truncated must be bool"),
    ({"truncated": np.zeros((4, 2), bool)}, ValueError, "truncated must have shape"),
    ({"gamma": 1.5}, ValueError, r"gamma must be in \[0, 1\], got 1.5"),
    ({"lambda_": -0.1}, ValueError, r"lambda_ must be in \[0, 1\]"),
    ({"gamma": np.ones((5, 2), np.float32)}, ValueError, "gamma must be a scalar"),
]
WRONG_FOR_GPAE = [
    ({"values": np.zeros(5, np.float32)}, ValueError, "values must be"),
    ({"terminated": np.zeros((5, 2, 3), bool)}, ValueError, "terminated must have shape"),
    ({"log_ratios": np.zeros((5, 2), np.float32)}, ValueError, "log_ratios must have shape"),
    ({"log_ratios": np.zeros((5, 2, 3), bool)}, TypeError, "log_ratios must be floating"),
    ({"trace": "DT"}, ValueError, "unknown trace 'DT'"),
    ({"own_weight": "exactly"}, ValueError, "unknown own_weight 'exactly'; did you mean 'exact'"),
    ({"eta": 0.9}, ValueError, "eta must be at least 1"),
    ({"eta": np.array([1.0, 0.9, 1.0])}, ValueError, "eta must be at least 1, got 0.9"),
    ({"eta": np.ones((5, 2))}, ValueError, r"eta must broadcast to \(5, 2, 3\), got shape \(5, 2\)"),
    ({"own_cap": 0.9}, ValueError, "own_cap must be at least 1"),
]


def trace_with(estimator, changed):
    arguments = experience(shape=(5, 2, 3)) | {"gamma": 0.9, "lambda_": 0.8} | changed
    if estimator is gae:
        arguments = without_ratios(arguments)
    static = {name: arguments.pop(name) for name in list(arguments) if name not in experience()}
    return jax.eval_shape(lambda x: estimator(**x, **static), arguments)


@pytest.mark.parametrize("estimator", [gae, gpae])
@pytest.mark.parametrize(("changed", "error", "named"), WRONG)
def test_wrong_arguments_are_named_at_trace_time(estimator, changed, error, named):
    assert trace_with(estimator, {}).advantages.shape == (5, 2, 3)
    with pytest.raises(error, match=named):
        trace_with(estimator, changed)


@pytest.mark.parametrize(("changed", "error", "named"), WRONG_FOR_GPAE)
def test_wrong_arguments_of_gpae_are_named_at_trace_time(changed, error, named):
    with pytest.raises(error, match=named):
        trace_with(gpae, changed)


def test_the_advantage_gap_by_hand(strict):
    advantages = np.array([[1.0, -2.0, 4.0], [1.0, -2.0, 4.0], [1.0, -2.0, 4.0]], np.float32)
    alive = np.array([[True, True, True], [False, True, True], [False, True, False]])
    gap, exists = advantage_gap(advantages, alive, 1)
    np.testing.assert_allclose(gap, [2.5 + 2, 4 + 2, 0])
    np.testing.assert_array_equal(exists, [True, True, False])
    shared = np.broadcast_to(np.float32(3.0), (2, 3))
    np.testing.assert_array_equal(
        advantage_gap(shared, np.ones((2, 3), bool), 0)[0], 0
    )  # a joint advantage blames none


@pytest.mark.parametrize(
    ("advantages", "alive", "agent", "error"),
    [
        (np.zeros((2, 3), int), np.ones((2, 3), bool), 0, TypeError),
        (np.zeros((2, 3)), np.ones((2, 3)), 0, TypeError),
        (np.zeros((2, 3)), np.ones((2, 2), bool), 0, ValueError),
        (np.zeros((2, 3)), np.ones((2, 3), bool), 3, ValueError),
    ],
)
def test_wrong_arguments_of_the_gap(advantages, alive, agent, error):
    with pytest.raises(error):
        advantage_gap(advantages, alive, agent)

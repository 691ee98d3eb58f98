"""Estimators of the baselines: difference advantages, counterfactual advantages, tree backup."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.estimators import counterfactual_advantages, dae, gae, gpae, tree_backup
from reference import estimators as reference

T, E, N, A = 10, 3, 2, 4
pytestmark = pytest.mark.usefixtures("strict")


def experience(seed=0):
    """Rewards, values, values of what follows, ends, for a team; and what is per agent."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    terminated = rng.random((T, E)) < 0.15
    common = {"terminated": terminated, "truncated": ~terminated & (rng.random((T, E)) < 0.15)}
    return common | {"rewards": draw(T, E), "values": draw(T, E, N), "next_values": draw(T, E, N)}, draw


compiled_dae = jax.jit(dae, static_argnames=("trace", "own_weight"))
compiled_tree = jax.jit(tree_backup, static_argnames="steps")


# -- difference advantages -----------------------------------------------------------------------------------------


def test_dae_by_hand():
    # Discount 0.5, lambda 0.8, beta 0.5: delta = [1, 0.5, 2]; G = [1.52, 1.3, 2]; rbar = [1, 2, 4] damped and summed.
    targets = dae(
        rewards=jnp.array([1.0, 1.0, 1.0]),
        values=jnp.array([[1.0], [2.0], [3.0]]),
        next_values=jnp.array([[2.0], [3.0], [8.0]]),
        terminated=jnp.zeros(3, bool),
        truncated=jnp.zeros(3, bool),
        expected_rewards=jnp.array([[1.0], [2.0], [4.0]]),
        gamma=0.5,
        lambda_=0.8,
        beta=0.5,
    )
    shares = [0.5 * 1 + 0.4 * 0.25 * 2 + 0.16 * 0.125 * 4, 0.5 * 2 + 0.4 * 0.25 * 4, 0.5 * 4]
    advantages = np.array([1.52, 1.3, 2.0]) - shares
    np.testing.assert_allclose(targets.advantages[:, 0], advantages, rtol=1e-6)
    np.testing.assert_allclose(targets.critic_targets[:, 0], np.array([1.0, 2.0, 3.0]) + advantages, rtol=1e-6)


@pytest.mark.parametrize("off_policy", [False, True])
def test_dae_equals_the_sum_written_out(off_policy):
    arguments, draw = experience()
    arguments["expected_rewards"] = draw(T, E, N)
    log_ratios = 0.5 * draw(T, E, N) if off_policy else np.zeros((T, E, N), np.float32)
    options = {"gamma": 0.9, "lambda_": 0.8, "beta": 0.6}
    found = compiled_dae(**arguments, **options, log_ratios=log_ratios if off_policy else None)
    for e in range(E):
        columns = {name: x[:, e] for name, x in arguments.items()}
        advantages, targets = reference.dae(**columns, log_ratios=log_ratios[:, e], **options)
        np.testing.assert_allclose(found.advantages[:, e], advantages, atol=1e-5)
        np.testing.assert_allclose(found.critic_targets[:, e], targets, atol=1e-5)


@pytest.mark.parametrize("trace", ["it", "dt", "others"])
@pytest.mark.parametrize(("own_weight", "own_cap"), [("truncated", 1.5), ("exact", 1.5), ("exact", np.inf)])
def test_dae_weighs_the_own_action_as_gpae_does(trace, own_weight, own_cap):
    arguments, draw = experience(6)
    log_ratios, expected_rewards = draw(T, E, N), draw(T, E, N)
    etas = np.random.default_rng(7).uniform(1.0, 2.0, (T, 1, 1)).astype(np.float32)
    common = {"gamma": 0.9, "lambda_": 0.8, "trace": trace, "own_weight": own_weight, "own_cap": own_cap}
    found = compiled_dae(
        **arguments, **common, expected_rewards=expected_rewards, beta=0.6, eta=etas, log_ratios=log_ratios
    )
    for e in range(E):
        columns = {name: x[:, e] for name, x in arguments.items()}
        columns |= {"expected_rewards": expected_rewards[:, e], "log_ratios": log_ratios[:, e], "eta": etas[:, 0]}
        advantages, targets = reference.dae(**columns, **common, beta=0.6)
        scale = max(1.0, np.abs(targets).max())
        np.testing.assert_allclose(found.advantages[:, e], advantages, atol=1e-5 * scale)
        np.testing.assert_allclose(found.critic_targets[:, e], targets, atol=1e-5 * scale)
    plain = gpae(**arguments, **common, eta=etas, log_ratios=log_ratios)
    found = compiled_dae(
        **arguments, **common, expected_rewards=expected_rewards, beta=0.0, eta=etas, log_ratios=log_ratios
    )
    np.testing.assert_allclose(found.critic_targets, plain.critic_targets, rtol=1e-6, atol=1e-6)


def test_dae_by_itself_truncates_the_own_weight():
    arguments, draw = experience(8)
    arguments |= {"expected_rewards": draw(T, E, N), "log_ratios": draw(T, E, N), "gamma": 0.9, "lambda_": 0.8}
    found = dae(**arguments, beta=0.6)
    weights = np.minimum(1, np.exp(arguments["log_ratios"]))
    np.testing.assert_allclose(found.critic_targets, arguments["values"] + weights * found.advantages, atol=1e-6)
    exact = dae(**arguments, beta=0.6, own_weight="exact")
    np.testing.assert_array_equal(exact.advantages, found.advantages)  # the weight is the critic's alone
    assert np.abs(exact.critic_targets - found.critic_targets).max() > 0.1


def test_dae_without_beta_is_gae_bit_for_bit():
    arguments, draw = experience(1)
    plain = jax.jit(gae)(**arguments, gamma=0.9, lambda_=0.8)
    arguments["expected_rewards"] = draw(T, E, N)
    for log_ratios in (None, np.zeros((T, E, N), np.float32)):
        found = compiled_dae(**arguments, gamma=0.9, lambda_=0.8, beta=0.0, log_ratios=log_ratios)
        np.testing.assert_array_equal(found.advantages, plain.advantages)
        np.testing.assert_array_equal(found.critic_targets, plain.critic_targets)


def test_dae_of_one_step_is_the_error_minus_the_damped_reward():
    arguments, draw = experience(2)
    rewards = draw(T, E, N)
    found = compiled_dae(**arguments, expected_rewards=rewards, gamma=0.9, lambda_=0.0, beta=0.7)
    following = np.where(arguments["terminated"][..., None], 0, arguments["next_values"])
    errors = arguments["rewards"][..., None] + 0.9 * following - arguments["values"]
    np.testing.assert_allclose(found.advantages, errors - 0.7 * rewards, atol=1e-5)


# -- counterfactual advantages -------------------------------------------------------------------------------------


def test_counterfactual_advantages_by_hand():
    found = counterfactual_advantages(
        jnp.array([[1.0, 3.0], [2.0, -2.0]]), jnp.array([[0.5, 0.5], [0.25, 0.75]]), jnp.array([1, 0])
    )
    np.testing.assert_allclose(found, [3 - 2, 2 - (0.5 - 1.5)], rtol=1e-6)


def test_the_policys_mean_of_counterfactual_advantages_is_zero():
    _, draw = experience(3)
    values, probs = jnp.asarray(draw(T, E, N, A)), jax.nn.softmax(jnp.asarray(draw(T, E, N, A)))
    each = jnp.stack([counterfactual_advantages(values, probs, jnp.full((T, E, N), a)) for a in range(A)], axis=-1)
    np.testing.assert_allclose((probs * each).sum(-1), 0.0, atol=1e-5)


def test_one_agents_counterfactual_advantage_is_that_of_its_value():
    _, draw = experience(4)
    values, probs = jnp.asarray(draw(T, 1, A)), jax.nn.softmax(jnp.asarray(draw(T, 1, A)))
    actions = jnp.arange(T)[:, None] % A
    v = (probs * values).sum(-1)
    q = np.take_along_axis(np.asarray(values), np.asarray(actions)[..., None], -1)[..., 0]
    np.testing.assert_allclose(counterfactual_advantages(values, probs, actions), q - v, atol=1e-6)


# -- tree backup ---------------------------------------------------------------------------------------------------


def team(seed=0):
    arguments, draw = experience(seed)
    arguments = arguments | {name: arguments[name][..., 0] for name in ("values", "next_values")}
    return arguments | {"log_probs": -np.abs(draw(T, E))}


def test_tree_backup_by_hand():
    # delta = [1, 0.5, 2], discount x lambda = 0.4, pi(a) = [., 0.5, 0.25]: two steps, then three.
    arguments = {
        "rewards": jnp.array([1.0, 1.0, 1.0]),
        "values": jnp.array([1.0, 2.0, 3.0]),
        "next_values": jnp.array([2.0, 3.0, 8.0]),
        "terminated": jnp.zeros(3, bool),
        "truncated": jnp.zeros(3, bool),
        "log_probs": jnp.log(jnp.array([0.9, 0.5, 0.25])),
    }
    two = tree_backup(**arguments, gamma=0.5, lambda_=0.8, steps=2)
    np.testing.assert_allclose(two, [1 + 1 + 0.2 * 0.5, 2 + 0.5 + 0.1 * 2, 3 + 2], rtol=1e-6)
    three = tree_backup(**arguments, gamma=0.5, lambda_=0.8, steps=3)
    # More steps than there are rows are no more rounds.
    long, whole = (
        jax.make_jaxpr(lambda s=s: tree_backup(**arguments, gamma=0.5, lambda_=0.8, steps=s))() for s in (9_999, 3)
    )
    assert len(long.eqns) == len(whole.eqns)
    np.testing.assert_allclose(three, [1 + 1 + 0.2 * 0.5 + 0.2 * 0.1 * 2, 2 + 0.5 + 0.1 * 2, 3 + 2], rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 3, T])
def test_tree_backup_equals_the_sum_written_out(steps):
    arguments = team()
    found = compiled_tree(**arguments, gamma=0.9, lambda_=0.8, steps=steps)
    for e in range(E):
        columns = {name: x[:, e] for name, x in arguments.items()}
        expected = reference.tree_backup(**columns, gamma=0.9, lambda_=0.8, steps=steps)
        np.testing.assert_allclose(found[:, e], expected, atol=1e-5)


def test_tree_backup_of_certain_actions_is_td_lambda():
    arguments = team(5)
    arguments["log_probs"] = np.zeros((T, E), np.float32)
    found = compiled_tree(**arguments, gamma=0.9, lambda_=0.8, steps=T)
    arguments.pop("log_probs")
    np.testing.assert_allclose(found, jax.jit(gae)(**arguments, gamma=0.9, lambda_=0.8).critic_targets, atol=1e-5)


# -- all of them ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("way", ["terminated", "truncated"])
@pytest.mark.parametrize("estimator", [gae, gpae, dae, tree_backup])
def test_nothing_of_the_next_episode_reaches_the_one_before(estimator, way, garbage):
    arguments, draw = experience(9)
    arguments |= {"terminated": np.zeros((T, E), bool), "truncated": np.zeros((T, E), bool)}
    arguments[way][4] = True
    extra = {"gpae": ("log_ratios",), "dae": ("expected_rewards", "log_ratios"), "tree_backup": ("log_probs",)}
    arguments |= {name: -np.abs(draw(T, E, N)) for name in extra.get(estimator.__name__, ())}
    options = {"gamma": 0.9, "lambda_": 0.8} | {"dae": {"beta": 0.5}, "tree_backup": {"steps": 5}}.get(
        estimator.__name__, {}
    )
    if estimator is tree_backup:
        arguments = {name: x[..., 0] if x.ndim == 3 else x for name, x in arguments.items()}
    clean = estimator(**arguments, **options)
    for name in ("rewards", "values", "next_values"):
        arguments[name][5:] = garbage
    if way == "terminated":
        arguments["next_values"][4] = garbage  # of the final state, which is worth nothing
    spoilt = estimator(**arguments, **options)
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
        np.testing.assert_array_equal(one[:5], other[:5])
        assert not np.isfinite(other[5:]).any()


# -- wrong arguments -----------------------------------------------------------------------------------------------


def dae_with(arguments, **changed):
    options = {"expected_rewards": arguments["values"], "gamma": 0.9, "lambda_": 0.8, "beta": 0.5}
    return dae(**arguments, **options | changed)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda a: dae(**a, expected_rewards=np.zeros((T, E)), gamma=0.9, lambda_=0.8, beta=0.5), "expected_rewards"),
        (lambda a: dae_with(a, beta=1.5), "beta"),
        (lambda a: dae_with(a, trace="its"), "trace"),
        (lambda a: dae_with(a, own_weight="exactly"), "own_weight"),
        (lambda a: dae_with(a, log_ratios=a["values"], own_cap=0.5), "own_cap"),
        (lambda a: dae_with(a, log_ratios=a["values"], eta=np.ones(5)), "eta"),
        (lambda a: tree_backup(**a, log_probs=a["values"], gamma=0.9, lambda_=0.8, steps=3), "rewards"),
        (lambda a: tree_backup(**team(), gamma=0.9, lambda_=0.8, steps=0), "steps"),
        (lambda a: counterfactual_advantages(a["values"], a["values"], np.zeros(T, int)), "actions|probs"),
        (lambda a: counterfactual_advantages(a["values"], a["values"], np.zeros((T, E))), "actions"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(call, word):
    with pytest.raises((ValueError, TypeError), match=word):
        call(experience()[0])

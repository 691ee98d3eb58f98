from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import losses
from gpae.errors import UserError
from gpae.training.config import configure

pytestmark = pytest.mark.usefixtures("strict")


def test_masked_mean_is_a_sum_over_a_count():
    x = jnp.array([1.0, 2.0, jnp.nan])
    assert losses.masked_mean(x, jnp.array([True, True, False])) == 1.5
    assert losses.masked_mean(x, jnp.zeros(3, bool)) == 0.0


def test_normalise_uses_the_selected_samples_only():
    x = jnp.array([1.0, 3.0, 100.0])
    y = losses.normalise(x, jnp.array([True, True, False]))
    np.testing.assert_allclose(y[:2], [-1.0, 1.0], rtol=1e-6)


def test_on_policy_surrogate_is_ppo_by_hand():
    ratios = jnp.array([1.5, 0.5, 1.5, 0.5, 1.1])
    advantages = jnp.array([1.0, 1.0, -1.0, -1.0, 2.0])
    surrogate = losses.clipped_surrogate(jnp.log(ratios), jnp.zeros(5), advantages, 0.2)
    np.testing.assert_allclose(surrogate, [1.2, 0.5, -1.5, -0.8, 2.2], rtol=1e-6)


def test_off_policy_surrogate_is_clipped_around_the_old_policy():
    # rho_old = 2: the ratio may move in [1.6, 2.4], wherever 1 is.
    surrogate = losses.clipped_surrogate(
        jnp.log(jnp.array([3.0, 2.2, 1.0])), jnp.log(jnp.full(3, 2.0)), jnp.array([1.0, 1.0, -1.0]), 0.2
    )
    np.testing.assert_allclose(surrogate, [2.4, 2.2, -1.6], rtol=1e-6)


def test_the_additive_clip_has_the_same_width_whatever_the_old_ratio():
    # rho_old = 2: the ratio may move in [1.8, 2.2]; on-policy both are PPO's.
    ratios, advantages = jnp.log(jnp.array([3.0, 2.1, 1.0])), jnp.array([1.0, 1.0, -1.0])
    surrogate = losses.clipped_surrogate(ratios, jnp.log(jnp.full(3, 2.0)), advantages, 0.2, clip_range="additive")
    np.testing.assert_allclose(surrogate, [2.2, 2.1, -1.8], rtol=1e-6)
    both = [
        losses.clipped_surrogate(ratios, jnp.zeros(3), advantages, 0.2, clip_range=kind)
        for kind in ("additive", "multiplicative")
    ]
    np.testing.assert_array_equal(*both)


def test_at_the_old_policy_the_gradient_is_the_weighted_policy_gradient():
    old, advantages = jnp.log(jnp.array([0.5, 2.0])), jnp.array([1.0, -3.0])
    gradient = jax.grad(lambda x: losses.clipped_surrogate(x, old, advantages, 0.2).sum())(old)
    np.testing.assert_allclose(gradient, [0.5, -6.0], rtol=1e-6)


def test_errors_beyond_huber_s_delta_count_linearly():
    values, targets = jnp.array([0.5, -1.0, 4.0]), jnp.zeros(3)
    np.testing.assert_allclose(losses.value_error(values, values, targets, None, 1.0), [0.125, 0.5, 3.5], rtol=1e-6)
    clipped = losses.value_error(values, jnp.full(3, 2.0), targets, 0.5, 1.0)  # 1.5, 1.5 and 2.5 are nearer the old
    np.testing.assert_allclose(clipped, [1.0, 1.0, 3.5], rtol=1e-6)
    slopes = jax.grad(lambda v: losses.value_error(v, v, targets, None, 1.0).sum())(values)
    np.testing.assert_allclose(slopes, [0.5, -1.0, 1.0], rtol=1e-6)


def test_value_error_by_hand():
    values, old, targets = jnp.array([1.0, 0.1]), jnp.zeros(2), jnp.array([1.0, 1.0])
    np.testing.assert_allclose(losses.value_error(values, old, targets, None), [0.0, 0.405], rtol=1e-6)
    # The first has moved further than 0.2, and gains nothing by it.
    np.testing.assert_allclose(losses.value_error(values, old, targets, 0.2), [0.32, 0.405], rtol=1e-6)


def test_explained_variance():
    targets, mask = jnp.array([1.0, 2.0, 3.0, 99.0]), jnp.array([True, True, True, False])
    assert losses.explained_variance(targets, targets, mask) == 1.0
    assert losses.explained_variance(jnp.full(4, 2.0), targets, mask) == 0.0
    assert losses.explained_variance(-targets, targets, mask) < 0


# ---- ratios are bounded ---------------------------------------------------------------------------------------------

FAR = [25.0, -25.0, 80.0, -80.0, 1e30, np.inf, -np.inf]


@pytest.mark.parametrize("clip_range", losses.CLIP_RANGES)
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("old", [0.0, 9.0, *FAR])
@pytest.mark.parametrize("new", FAR)
def test_one_sample_far_away_cannot_make_a_loss_of_a_billion(new, old, advantage, clip_range):
    """Without the bound one sample at |log rho| = 25 among 45 gave a loss of -1.6e9, and infinite ones gave NaN."""
    new, old = jnp.full(45, 0.1).at[7].set(new), jnp.full(45, 0.0).at[7].set(old)

    def loss(shift):
        objective = losses.clipped_surrogate(new + shift, old, jnp.full(45, advantage), 0.2, clip_range=clip_range)
        return -losses.masked_mean(objective, jnp.ones(45, bool))

    value, gradient = jax.value_and_grad(loss)(jnp.zeros(45))
    assert abs(value) <= 1.2 * np.exp(losses.LOG_RATIO_LIMIT) / 45 + 1.2
    assert np.isfinite(gradient).all()
    assert gradient[7] == 0.0  # beyond the bound there is none
    assert (gradient[:7] != 0.0).all()


def test_ratios_are_bounded_as_in_the_released_code():
    far = jnp.array([11.0, -11.0])
    surrogate = losses.clipped_surrogate(far, far, jnp.array([-1.0, -1.0]), 0.2)
    np.testing.assert_allclose(surrogate, -np.exp([10.0, -10.0]), rtol=1e-6)


@pytest.mark.parametrize("clip_range", losses.CLIP_RANGES)
def test_ratios_within_the_bounds_are_as_they_were_bit_for_bit(clip_range):
    def unbounded(log_ratios, old_log_ratios, advantages):
        ratios, old = jnp.exp(log_ratios), jnp.exp(old_log_ratios)
        margin = 0.2 * old if clip_range == "multiplicative" else 0.2
        return jnp.minimum(ratios * advantages, jnp.clip(ratios, old - margin, old + margin) * advantages)

    def bounded(log_ratios, old_log_ratios, advantages):
        return losses.clipped_surrogate(log_ratios, old_log_ratios, advantages, 0.2, clip_range=clip_range)

    rng = np.random.default_rng(0)
    old = rng.uniform(-9.5, 9.5, 501).astype(np.float32)
    new = old + rng.normal(scale=0.2, size=501).astype(np.float32)
    advantages = rng.normal(size=501).astype(np.float32)
    for transform in (lambda f: f, jax.jit):
        np.testing.assert_array_equal(*(transform(f)(new, old, advantages) for f in (unbounded, bounded)))
        gradients = [transform(jax.grad(lambda x, f=f: f(x, old, advantages).sum()))(new) for f in (unbounded, bounded)]
        np.testing.assert_array_equal(*gradients)


def test_nan_is_not_hidden_by_the_bounds():
    nan, zero = jnp.full(1, jnp.nan), jnp.zeros(1)
    assert np.isnan(losses.clipped_surrogate(nan, zero, jnp.ones(1), 0.2)).all()
    assert np.isnan(losses.clipped_surrogate(zero, nan, jnp.ones(1), 0.2)).all()


@pytest.mark.parametrize("eta", [1.0, 1.05])
def test_what_rounding_leaves_of_fresh_experience_is_not_said_to_be_cut(eta):
    algorithm = configure("gpae", window=2, num_envs=8, eta=eta).algorithm
    noise = 1e-3 * np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    mask = jnp.ones(noise.shape, bool)
    fresh = algorithm.measure(None, SimpleNamespace(log_ratios=jnp.asarray(noise)), mask)
    assert (fresh["cut_at_one"], fresh["cut_at_eta"]) == (0, 0)
    old = algorithm.measure(None, SimpleNamespace(log_ratios=jnp.full(noise.shape, 0.1)), mask)
    assert (old["cut_at_one"], old["cut_at_eta"]) == (1, 1)


def test_an_unknown_clip_range_is_named():
    with pytest.raises(UserError, match="unknown clip_range 'additiv'; did you mean 'additive'"):
        losses.clipped_surrogate(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1), 0.2, clip_range="additiv")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import losses

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


@pytest.mark.parametrize("log_ratio", [25.0, -25.0, 80.0, float("inf")])
def test_one_sample_far_away_cannot_outweigh_all_others(log_ratio):
    """Without the bound a single sample at log rho = 25 gave a loss of -1.6e9."""
    far = jnp.array([log_ratio, 0.1])

    def objective(shift):
        return losses.clipped_surrogate(far + shift, far, jnp.array([1.0, 1.0]), 0.2).sum()

    value, gradient = jax.value_and_grad(objective)(0.0)
    assert abs(value) <= 1.2 * np.exp(losses.LOG_RATIO_LIMIT) + 2
    assert np.isfinite(gradient)


def test_ratios_within_the_bounds_are_as_they_are():
    within = jnp.linspace(-9.9, 9.9, 41)
    old, advantages = within[::-1] / 3, jnp.sin(within)
    ratios, olds = jnp.exp(within), jnp.exp(old)
    plain = jnp.minimum(ratios * advantages, jnp.clip(ratios, olds - 0.2 * olds, olds + 0.2 * olds) * advantages)
    np.testing.assert_array_equal(losses.clipped_surrogate(within, old, advantages, 0.2), plain)

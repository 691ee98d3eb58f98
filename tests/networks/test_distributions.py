import jax
import jax.numpy as jnp
import numpy as np

from gpae.networks.distributions import entropy, log_policy, log_prob, mode, sample


def test_masked_policy_by_hand(strict):
    logits = jnp.array([[jnp.log(1.0), jnp.log(3.0), 9.0], [5.0, 5.0, 5.0]])
    legal = jnp.array([[True, True, False], [False, False, True]])
    log_probs = log_policy(logits, legal)
    np.testing.assert_allclose(jnp.exp(log_probs), [[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]], atol=1e-6)
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(entropy(log_probs), [expected, 0.0], atol=1e-6)
    np.testing.assert_array_equal(mode(log_probs), [1, 2])
    np.testing.assert_allclose(log_prob(log_probs, jnp.array([0, 2])), [np.log(0.25), 0.0], atol=1e-6)


def test_gradients_through_the_mask_are_finite():
    legal = jnp.array([[True, True, False], [False, False, True], [False, False, False]])

    def loss(logits):
        log_probs = log_policy(logits, legal)
        return entropy(log_probs).sum() + log_prob(log_probs, jnp.array([0, 2, 1])).sum()

    gradient = jax.grad(loss)(jnp.array([[0.3, -2.0, 40.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]))
    assert jnp.isfinite(gradient).all()
    assert (gradient[0, 2] == 0) & (gradient[1] == 0).all()


def test_samples_are_legal_and_follow_the_policy():
    log_probs = log_policy(jnp.log(jnp.array([0.2, 0.3, 0.5])), jnp.array([True, False, True]))
    drawn = sample(jax.random.key(0), jnp.broadcast_to(log_probs, (20_000, 3)))
    frequencies = np.bincount(drawn, minlength=3) / 20_000
    assert frequencies[1] == 0
    # Four standard deviations.
    assert abs(frequencies[0] - 2 / 7) < 4 * np.sqrt(2 / 7 * 5 / 7 / 20_000)

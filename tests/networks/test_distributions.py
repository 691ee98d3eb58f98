import jax
import jax.numpy as jnp
import numpy as np

from gpae.networks.distributions import Categorical, masked


def test_masked_policy_by_hand(strict):
    logits = jnp.array([[jnp.log(1.0), jnp.log(3.0), 9.0], [5.0, 5.0, 5.0]])
    legal = jnp.array([[True, True, False], [False, False, True]])
    pi = masked(logits, legal)
    np.testing.assert_allclose(pi.own_slot, [[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]], atol=1e-6)
    expected = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(pi.entropy(), [expected, 0.0], atol=1e-6)
    np.testing.assert_array_equal(pi.mode(), [1, 2])
    np.testing.assert_allclose(pi.log_prob(jnp.array([0, 2])), [np.log(0.25), 0.0], atol=1e-6)


def test_gradients_through_the_mask_are_finite():
    legal = jnp.array([[True, True, False], [False, False, True], [False, False, False]])

    def loss(logits):
        pi = masked(logits, legal)
        return pi.entropy().sum() + pi.log_prob(jnp.array([0, 2, 1])).sum()

    gradient = jax.grad(loss)(jnp.array([[0.3, -2.0, 40.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]]))
    assert jnp.isfinite(gradient).all()
    assert (gradient[0, 2] == 0) & (gradient[1] == 0).all()


def test_samples_are_legal_and_follow_the_policy():
    pi = masked(jnp.log(jnp.array([0.2, 0.3, 0.5])), jnp.array([True, False, True]))
    drawn = Categorical(jnp.broadcast_to(pi.log_probs, (20_000, 3))).sample(jax.random.key(0))
    frequencies = np.bincount(drawn, minlength=3) / 20_000
    assert frequencies[1] == 0
    # Four standard deviations.
    assert abs(frequencies[0] - 2 / 7) < 4 * np.sqrt(2 / 7 * 5 / 7 / 20_000)


def test_rows_share_their_noise_where_they_are_asked_to():
    pi = Categorical(jnp.broadcast_to(jnp.log(jnp.full(4, 0.25)), (6, 50, 4)))
    drawn = pi.sample_rows(jax.random.key(0))
    assert drawn.shape == (6, 50)
    np.testing.assert_array_equal(drawn, jnp.broadcast_to(drawn[:1], drawn.shape))
    assert len(np.unique(drawn)) == 4

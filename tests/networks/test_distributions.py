import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from gpae.networks import Actor, ContinuousActor, ContinuousPolicy, NetworkSizes
from gpae.networks.distributions import Categorical, DiagonalNormal, masked


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
    drawn = pi.chosen_by(Actor(4, NetworkSizes()).noise(jax.random.key(0), 50))
    assert drawn.shape == (6, 50)
    np.testing.assert_array_equal(drawn, jnp.broadcast_to(drawn[:1], drawn.shape))
    assert len(np.unique(drawn)) == 4


def normal(mean, scale, **options):
    mean, scale = jnp.array(mean), jnp.array(scale)
    return DiagonalNormal(mean, jnp.log(scale), jnp.ones(mean.shape, bool), **options)


def test_a_diagonal_normal_is_scipys_in_the_boxs_own_units(strict):
    pi = normal([[0.5, -1.0], [0.0, 0.0]], [[0.3, 2.0], [1.0, 1.0]], low=0.0, high=4.0)
    one = stats.norm(loc=[[3.0, 0.0], [2.0, 2.0]], scale=[[0.6, 4.0], [2.0, 2.0]])
    actions = jnp.array([[3.5, -1.0], [0.0, 9.0]])
    np.testing.assert_allclose(pi.log_prob(actions), one.logpdf(actions).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(pi.entropy(), one.entropy().sum(-1), rtol=1e-5)
    np.testing.assert_allclose(pi.own_slot, one.mean(), rtol=1e-6)
    np.testing.assert_allclose(pi.mode(), one.mean(), rtol=1e-6)
    shown = normal(pi.mean, jnp.exp(pi.log_scale), low=0.0, high=4.0, show_scale=True).own_slot
    np.testing.assert_allclose(shown, np.concatenate([one.mean(), one.std()], axis=-1), rtol=1e-5)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.0), (0.8, 0.3), (-1.5, 0.7)])
def test_a_squashed_normal_is_a_density_with_its_moments_and_entropy(mean, scale, strict):
    """Against numerical integrals over the box."""
    pi = normal([mean], [scale], low=-2.0, high=6.0, squashed=True, show_scale=True)
    grid = jnp.linspace(-2, 6, 20_001)[1:-1, None]
    log_density = np.asarray(jax.vmap(pi.log_prob)(grid), float)
    density, places = np.exp(log_density), np.asarray(grid[:, 0], float)

    def mean_of(x):
        return integrate.simpson(density * x, x=places)

    np.testing.assert_allclose(mean_of(np.ones_like(places)), 1.0, atol=2e-3)
    middle = mean_of(places)
    np.testing.assert_allclose(pi.own_slot, [middle, np.sqrt(mean_of((places - middle) ** 2))], rtol=3e-3)
    np.testing.assert_allclose(pi.entropy(), -mean_of(log_density), atol=5e-3)
    drawn = jax.vmap(pi.sample)(jax.random.split(jax.random.key(0), 20_000))
    assert ((drawn >= -2) & (drawn <= 6)).all()
    np.testing.assert_allclose(drawn.mean(0), [middle], atol=4 * float(pi.own_slot[1]) / np.sqrt(20_000))


def test_far_actions_of_a_squashed_normal_have_finite_densities_and_gradients():
    def loss(mean, log_scale, action):
        pi = DiagonalNormal(mean, log_scale, jnp.ones(2, bool), squashed=True)
        return pi.log_prob(action) + pi.entropy() + pi.own_slot.sum()

    for action in ([1.0, -1.0], [1.5, 0.0]):
        value, gradient = jax.value_and_grad(loss, (0, 1))(
            jnp.array([9.0, -9.0]), jnp.array([-5.0, 2.0]), jnp.array(action)
        )
        assert np.isfinite(value)
        assert all(np.isfinite(x).all() for x in gradient)


@pytest.mark.parametrize("squashed", [False, True])
def test_components_that_an_agent_does_not_have_count_for_nothing(squashed):
    mask = jnp.array([True, False])
    pi = DiagonalNormal(jnp.array([0.2, 7.0]), jnp.array([0.1, 2.0]), mask, squashed=squashed, show_scale=True)
    one = DiagonalNormal(jnp.array([0.2]), jnp.array([0.1]), jnp.array([True]), squashed=squashed)
    action = pi.sample(jax.random.key(0))
    assert action[1] == 0
    np.testing.assert_allclose(pi.log_prob(action), one.log_prob(action[:1]), rtol=1e-6)
    np.testing.assert_allclose(pi.entropy(), one.entropy(), rtol=1e-6)
    assert (pi.own_slot[jnp.array([1, 3])] == 0).all()


def test_real_rows_share_their_noise_where_they_are_asked_to():
    pi = normal(jnp.zeros((3, 4, 2)), jnp.ones((3, 4, 2)))
    rows = pi.chosen_by(ContinuousActor(2, NetworkSizes()).noise(jax.random.key(0), 4))
    assert (rows == rows[:1]).all()
    assert len(np.unique(rows[0])) == 8
    np.testing.assert_allclose(pi.sample(jax.random.key(1)).shape, (3, 4, 2))


@pytest.mark.parametrize(("scale", "free"), [("free", True), ("state", False)])
def test_a_continuous_actors_scale_is_one_vector_or_depends_on_what_is_seen(scale, free, strict):
    actor = ContinuousActor(
        num_actions=2,
        sizes=NetworkSizes(hidden_size=4),
        low=-3.0,
        high=1.0,
        policy=ContinuousPolicy(action_scale=scale),
    )
    seen = (jnp.ones((2, 1, 3, 5)), jnp.ones((2, 1, 3, 2), bool), jnp.zeros((2, 1), bool), actor.initial_carry(1, 3))
    (pi, carries), params = jax.jit(actor.init_with_output)(jax.random.key(0), *seen)
    assert carries.shape == (2, 1, 3, 4)
    assert ("log_scale" in params["params"]) is free
    np.testing.assert_allclose(pi.log_scale, jnp.zeros((2, 1, 3, 2)), atol=0.05)
    np.testing.assert_allclose(pi.mode(), -jnp.ones((2, 1, 3, 2)), atol=0.1)
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), params)
    other = (jax.random.normal(jax.random.key(2), seen[0].shape), *seen[1:])
    here, there = (jax.jit(actor.apply)(params, *x)[0].log_scale for x in (seen, other))
    assert bool(jnp.all(here == there)) is free

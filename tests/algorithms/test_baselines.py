"""COMA, DAE and DOP against their definitions."""

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import losses
from gpae.algorithms.base import algorithm, algorithm_called
from gpae.algorithms.batch import critic_input
from gpae.envs.probes import Death, Team
from gpae.errors import UserError
from gpae.networks import CriticInput, CriticSizes, DecomposedCritic
from gpae.training.config import configure
from gpae.types import View
from reference import estimators as reference
from reference.stages import Learner, Programs

SMALL = {
    "num_envs": 4,
    "rollout_length": 12,
    "chunk_length": 4,
    "epochs": 1,
    "minibatches": 1,
    "hidden_size": 8,
    "embedding_size": 8,
}
REPLAY = {"replay_sequences": 6, "replay_segments": 3}
BASELINES = {"coma-q": {}, "dae": {"beta": 0.7}, "dop": {"lambda_": 0.8}}
"""With settings that are not the defaults, the same in all tests, so that each is compiled once."""


def small(name, **settings):
    return configure(name, **SMALL | (REPLAY if name.startswith("dop") else {}) | settings)


@functools.cache
def programs(name):
    return Programs(small(name, **BASELINES[name]), Death(length=5))


@functools.cache
def experienced(name):
    """Learner, first state, and the experience and batch of its second rollout, nothing learnt before it."""
    p = programs(name)
    state = p.init(jax.random.key(0))
    following, _ = p.experience(state)
    _, found = p.experience(following)
    return p.learner, state, found, *jax.jit(p.learner.batch)(found)


def columns(found, values, next_values, e):
    """The reference's first arguments for environment `e`, with one value per row."""
    trajectory = found.segment.trajectory
    arrays = (trajectory.rewards, values, next_values, trajectory.terminated, trajectory.truncated)
    return [np.asarray(x)[:, e] for x in arrays]


@pytest.mark.parametrize("algorithm", BASELINES)
def test_the_batch_reproduces_the_values_of_the_targets(algorithm):
    """The critic's loss at the start of the update is the error of the values that its targets were made from."""
    learner, state, found, batch, carries = experienced(algorithm)
    _, metrics = jax.jit(learner.critic_loss)(state.params.critic, batch, carries.critic)
    valued = np.asarray(found.segment.trajectory.valid)
    error = 0.5 * np.square(np.asarray(found.evaluation.critic.values - found.targets.critic_targets))
    np.testing.assert_allclose(metrics["value_loss"], error[valued].mean(), rtol=1e-4)
    assert error[valued].mean() > 1e-3


# -- COMA ----------------------------------------------------------------------------------------------------------


def test_coma_q_is_the_counterfactual_baseline_and_td_lambda():
    _, _, found, _, _ = experienced("coma-q")
    evaluation, critic = found.evaluation, found.evaluation.critic
    q = np.asarray(critic.extras["action_values"], np.float64)
    taken = np.take_along_axis(q, np.asarray(evaluation.actions)[..., None], -1)[..., 0]
    np.testing.assert_allclose(critic.values, taken, atol=1e-6)
    probs = np.asarray(evaluation.own_slot)
    np.testing.assert_allclose(found.targets.advantages, taken - (probs * q).sum(-1), atol=1e-5)
    each = [taken_by - (probs * q).sum(-1) for taken_by in np.moveaxis(q, -1, 0)]
    np.testing.assert_allclose((probs * np.stack(each, -1)).sum(-1), 0.0, atol=1e-6)
    for e in range(4):
        arguments = columns(found, critic.values, critic.next_values, e)
        advantages = reference.gae(*arguments, gamma=0.99, lambda_=0.95)
        np.testing.assert_allclose(
            found.targets.critic_targets[:, e], np.asarray(critic.values)[:, e] + advantages, atol=1e-4
        )


# -- DAE -----------------------------------------------------------------------------------------------------------


def test_dae_subtracts_the_ensembles_expected_reward():
    learner, state, found, _, _ = experienced("dae")
    evaluation, critic, trajectory = found.evaluation, found.evaluation.critic, found.segment.trajectory
    inputs = critic_input(trajectory, evaluation)
    carry, params = found.segment.critic_carry["rewards"], state.params.critic["rewards"]
    apply = jax.jit(learner.algorithm.reward_model(learner.env.spec).apply)
    models = []
    for m in range(2):
        one = jax.tree.map(lambda x, m=m: x[m], params)
        models.append(apply(one, inputs, trajectory.is_first, carry[:, m]).values)
    assert np.abs(models[0] - models[1]).max() > 1e-2  # independent
    np.testing.assert_allclose(critic.extras["rewards"], (models[0] + models[1]) / 2, atol=1e-5)
    expected = np.sum(np.asarray(evaluation.own_slot) * np.asarray(critic.extras["rewards"]), -1)
    for e in range(4):
        arguments = [*columns(found, critic.values, critic.next_values, e), expected[:, e]]
        options = {"gamma": 0.99, "lambda_": 0.95, "beta": 0.7}
        advantages, targets = reference.dae(*arguments, np.zeros_like(expected[:, e]), **options)
        np.testing.assert_allclose(found.targets.advantages[:, e], advantages, atol=1e-4)
        np.testing.assert_allclose(found.targets.critic_targets[:, e], targets, atol=1e-4)


def test_dae_trains_its_reward_models_on_the_reward_of_the_action_taken():
    learner, state, found, batch, carries = experienced("dae")
    _, metrics = jax.jit(learner.critic_loss)(state.params.critic, batch, carries.critic)
    evaluation, trajectory = found.evaluation, found.segment.trajectory
    found_rewards, _ = jax.jit(functools.partial(learner.algorithm.predicted, learner.env.spec))(
        state.params.critic["rewards"],
        critic_input(trajectory, evaluation),
        trajectory.is_first,
        found.segment.critic_carry["rewards"],
    )
    taken = np.take_along_axis(np.asarray(found_rewards), np.asarray(evaluation.actions)[None, ..., None], -1)[..., 0]
    errors = 0.5 * np.square(taken - np.asarray(trajectory.rewards)[None, ..., None])
    np.testing.assert_allclose(metrics["reward_loss"], errors[:, np.asarray(trajectory.valid)].mean(), rtol=1e-4)


def test_daes_models_of_the_rewards_learn_scaled_ones_too():
    learner, _, found, _, _ = experienced("dae")
    scaled = Learner(small("dae", reward_scale=3.0).algorithm, learner.env, learner.budget)
    learnt = jax.jit(lambda found: scaled.batch(found)[0].extras["rewards"])(found)
    rewards = np.asarray(found.segment.trajectory.rewards)
    assert np.abs(rewards).max() > 0
    np.testing.assert_allclose(np.sort(np.unique(learnt)), np.unique(3 * rewards), rtol=1e-6)


@pytest.mark.slow
def test_dae_without_beta_trains_like_mappo():
    """Also with gradients that are clipped, the reward models having a norm of their own, and weights drawn anew."""
    trained = {}
    for name in ("dae", "mappo"):
        beta = {"beta": 0.0} if name == "dae" else {}
        p = Programs(small(name, max_grad_norm=0.01, initial_weights="lecun", **beta), Team())
        state, _ = p.update(p.init(jax.random.key(0)))
        critic = state.params.critic["value"] if name == "dae" else state.params.critic
        trained[name] = (state.params.actor, critic)
    for x, y in zip(jax.tree.leaves(trained["dae"]), jax.tree.leaves(trained["mappo"]), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


# -- DOP -----------------------------------------------------------------------------------------------------------


def test_the_decomposed_critic_is_a_convex_sum_with_an_exact_expectation():
    critic = DecomposedCritic(num_agents=3, num_actions=4, sizes=CriticSizes(hidden_size=8, embedding_size=8))
    keys = jax.random.split(jax.random.key(0), 5)
    inputs = CriticInput(
        view=View(
            observations=jax.random.normal(keys[1], (2, 3, 3, 6)),
            state=jax.random.normal(keys[0], (2, 3, 5)),
            action_mask=jnp.ones((2, 3, 3, 4), bool),
            alive=jnp.ones((2, 3, 3), bool),
        ),
        actions=jnp.zeros((2, 3, 3), jnp.int32),
        own_slot=jax.nn.softmax(jax.random.normal(keys[2], (2, 3, 3, 4))),
    )
    carry, is_first = critic.initial_carry(3), jnp.ones((2, 3), bool)
    params, apply = jax.jit(critic.init)(keys[3], inputs, is_first, carry), jax.jit(critic.apply)
    found = jax.device_get(apply(params, inputs, is_first, carry))
    assert (np.asarray(found.weights) >= 0).all()
    np.testing.assert_allclose(np.asarray(found.weights).sum(-1), 1.0, atol=1e-5)
    assert np.ptp(found.weights) > 1e-2
    probs = np.asarray(inputs.own_slot, np.float64)
    brute = np.zeros((2, 3))
    for joint in itertools.product(range(4), repeat=3):
        q_tot = sum(found.weights[..., i] * found.action_values[..., i, a] for i, a in enumerate(joint))
        brute += np.prod([probs[..., i, a] for i, a in enumerate(joint)], axis=0) * q_tot
    np.testing.assert_allclose(found.of(inputs.own_slot), brute, atol=1e-5)
    # It sees neither the actions nor the policy.
    other = inputs.replace(actions=inputs.actions + 1, own_slot=inputs.own_slot[..., ::-1])
    again = apply(params, other, is_first, carry)
    np.testing.assert_array_equal(again.action_values, found.action_values)


def test_dop_learns_new_rows_by_td_lambda_and_replayed_ones_by_tree_backup():
    learner, _, found, batch, _ = experienced("dop")
    trajectory, evaluation, targets = found.segment.trajectory, found.evaluation, found.targets
    assert trajectory.valid.shape == (12, 4 + 6)
    critic, extras = evaluation.critic, evaluation.critic.extras
    q, k = np.asarray(extras["action_values"], np.float64), np.asarray(extras["weights"], np.float64)
    taken = np.take_along_axis(q, np.asarray(evaluation.actions)[..., None], -1)[..., 0]
    np.testing.assert_allclose(critic.values, np.repeat((k * taken).sum(-1)[..., None], 2, -1), atol=1e-5)
    mean = (np.asarray(evaluation.own_slot) * q).sum(-1)
    np.testing.assert_allclose(targets.advantages, k * (taken - mean), atol=1e-5)
    np.testing.assert_allclose(extras["next_expected"][:-1], (k * mean).sum(-1)[1:], atol=1e-5)
    joint = np.asarray(evaluation.log_probs).sum(-1)
    valid, gamma = np.asarray(trajectory.valid), 0.99
    for e in range(10):
        following = critic.next_values[..., 0] if e < 4 else extras["next_expected"]
        arguments = columns(found, critic.values[..., 0], following, e)
        if e < 4:
            arguments[1:3] = [x[:, None] for x in arguments[1:3]]
            expected = arguments[1][:, 0] + reference.gae(*arguments, gamma=gamma, lambda_=0.8)[:, 0]
        else:
            expected = reference.tree_backup(*arguments, joint[:, e], gamma=gamma, lambda_=0.93, steps=5)
        rows = valid[:, e]
        np.testing.assert_allclose(np.asarray(targets.critic_targets)[rows, e, 0], expected[rows], atol=1e-4)
        np.testing.assert_allclose(np.asarray(targets.critic_targets)[rows, e, 1], expected[rows], atol=1e-4)
    # Old sequences are the critic's alone; their carries are those of their time, so that nothing has drifted.
    acting = np.asarray(learner.masks(trajectory)[0])
    assert acting[:, :4].any()
    assert not acting[:, 4:].any()
    np.testing.assert_allclose(np.asarray(evaluation.log_ratios)[valid], 0.0, atol=1e-5)
    assert not valid[-1, 4:].any()
    assert np.asarray(batch.value_mask).mean() == pytest.approx(valid.mean())


def test_dop_follows_the_plain_gradient_and_dop_clip_the_clipped_one():
    learner, state, _, batch, carries = experienced("dop")
    _, measured = jax.jit(learner.policy_loss)(state.params.actor, batch, carries.actor)
    log_probs, acting = np.asarray(batch.evaluation.log_probs), np.asarray(batch.policy_mask)
    advantages = np.asarray(batch.targets.advantages)
    np.testing.assert_allclose(
        measured["policy_loss"], -np.mean((log_probs * advantages)[acting]), rtol=1e-4, atol=1e-7
    )
    # With ratios of 1 the clipped objective is their mean, which is 0 where they are normalised.
    higher = replace(batch, targets=replace(batch.targets, advantages=batch.targets.advantages + 0.5))
    clipped = Learner(small("dop-clip").algorithm, learner.env, learner.budget)
    _, measured = jax.jit(clipped.policy_loss)(state.params.actor, higher, carries.actor)
    np.testing.assert_allclose(measured["policy_loss"], -(advantages[acting].mean() + 0.5), atol=1e-5)


def test_dop_hands_on_the_carry_of_its_environments_alone():
    _, state, _, _, _ = experienced("dop")
    following, found = programs("dop").experience(state)
    assert following.carry.critic.shape == state.carry.critic.shape
    np.testing.assert_array_equal(following.carry.critic, found.evaluation.critic.carries[-1, :4])
    assert following.buffer.added == 1


# -- registry and errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "coma-q", "window": 2}, ["--window", "gpae", "coma-q"]),
        ({"name": "dop", "replay_sequences": 27, "minibatches": 7}, ["sequences", "minibatches"]),
        ({"name": "dop", "rollout_length": 2, "chunk_length": None}, ["--rollout-length"]),
        ({"name": "dae", "beta": 1.5}, ["--beta"]),
        ({"name": "dae", "window": 2, "trace": "dt"}, ["--trace", "none, it"]),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_named(settings, words):
    with pytest.raises(UserError) as error:
        Programs(small(**{"num_envs": 28} | settings), Team())
    for word in words:
        assert word in str(error.value)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="dae"):
        algorithm("dae", source="")(type("Other", (algorithm_called("dae"),), {}))


def test_masked_means_leave_out_what_is_replayed():
    """The advantages' statistics are those of the newest experience."""
    learner, _, found, batch, _ = experienced("dop")
    chosen = np.asarray(batch.targets.advantages)[np.asarray(batch.policy_mask)]
    np.testing.assert_allclose([chosen.mean(), chosen.std()], [0.0, 1.0], atol=1e-2)
    acting, _ = learner.masks(found.segment.trajectory)
    own = losses.normalise(found.targets.advantages, acting)
    np.testing.assert_allclose(np.sort(chosen), np.sort(np.asarray(own)[np.asarray(acting)]), atol=1e-6)

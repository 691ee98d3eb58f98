"""The learner, stage by stage. Each trap of the method has a test here that fails when it is walked into."""

import dataclasses
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gpae.algorithms import blocks, losses, replay
from gpae.algorithms.actor_critic import ActorCritic
from gpae.algorithms.base import Budget, algorithm_called
from gpae.algorithms.batch import critic_input
from gpae.algorithms.rollout import Last
from gpae.envs import Discrete
from gpae.envs.continuous_probes import Aim
from gpae.envs.probes import Death, Memory, Stay, Team
from gpae.errors import UserError
from gpae.estimators import importance_traces
from gpae.settings import as_arrays
from gpae.training.config import configure
from reference import estimators as reference
from reference.stages import Learner, Programs

SMALL = {
    "num_envs": 8,
    "rollout_length": 12,
    "epochs": 2,
    "minibatches": 2,
    "hidden_size": 8,
    "embedding_size": 8,
    "actor_identity": True,
}


def small(algorithm="gpae", **settings):
    return configure(algorithm, **SMALL | settings)


def programs(env, algorithm="gpae", **settings):
    return _programs(env, small(algorithm, **settings))


@functools.cache
def _programs(env, config):
    return Programs(config, env)


DEATH, MEMORY, STAY, TEAM = Death(length=5), Memory(), Stay(length=2, prize=0.0), Team()
CHUNKED = {"chunk_length": 4}
WINDOW = {"window": 2, "chunk_length": 4}


def experienced(env, updates, lambda_=0.95, change=0.0, **settings):
    """After `updates` rollouts, with nothing learnt but `change` added to the parameters before the last.

    Returns:
      The programs, the parameters of the last rollout, its experience, its batch and the batch's carries.
    """
    return _experienced(env, updates, lambda_, change, small(**settings))


@functools.cache
def _experienced(env, updates, lambda_, change, config):
    p = _programs(env, config)
    chosen = dataclasses.replace(p.algorithm, lambda_=jnp.float32(lambda_))
    state = p.init(jax.random.key(0))
    for i in range(updates):
        if i == updates - 1:
            leaves, tree = jax.tree.flatten(state.params)
            noise = jax.random.split(jax.random.key(7), len(leaves))
            moved = [x + change * jax.random.normal(k, x.shape) for x, k in zip(leaves, noise, strict=True)]
            state = dataclasses.replace(state, params=jax.tree.unflatten(tree, moved))
        params = state.params
        state, experience = p.experience(state, chosen)
    return p, params, experience, *Learner(chosen, env, p.budget).batch(experience)


def with_advantages(batch, advantages):
    return dataclasses.replace(batch, targets=dataclasses.replace(batch.targets, advantages=advantages))


# -- memory and ratios ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "settings"),
    [
        (DEATH, CHUNKED),
        (STAY, {}),
        (DEATH, WINDOW | {"recurrent": False}),
        pytest.param(DEATH, CHUNKED | {"algorithm": "mappo", "normalise_observations": True}, marks=pytest.mark.slow),
        pytest.param(DEATH, {"algorithm": "dae", "share_parameters": "false"}, marks=pytest.mark.slow),
    ],
    ids=["death, chunked", "stay, whole", "death, without memory", "mappo, normalised", "dae, unshared"],
)
def test_first_epoch_ratio_is_one(env, settings):
    """Traps 1 and 8: memory is reset at episode ends and only there, and chunks begin with the memory before them."""
    p, params, _, batch, carries = experienced(env, 2, **settings)
    pi = p.learner.policy(params.actor, batch.trajectory, carries.actor)
    executed = np.asarray(batch.value_mask)
    ratios = np.exp(pi.log_prob(batch.evaluation.actions) - batch.trajectory.log_probs)[executed]
    np.testing.assert_allclose(ratios, 1.0, atol=1e-5)
    assert executed.mean() > 0.5


@pytest.mark.parametrize(
    ("algorithm", "env", "settings"),
    [
        ("gpae", DEATH, CHUNKED),
        pytest.param("mappo", STAY, {}, marks=pytest.mark.slow),
        pytest.param("gpae", Aim(), {}, marks=pytest.mark.slow),
        pytest.param("coma-q", DEATH, CHUNKED, marks=pytest.mark.slow),
    ],
)
def test_fresh_experience_is_not_evaluated_twice_by_the_actor_and_what_it_said_then_is_the_same(
    algorithm, env, settings
):
    learner = programs(env, algorithm=algorithm, **settings).learner
    state = jax.jit(learner.init)(jax.random.key(0))
    # Policies begin near even, whatever they remember: these are decided.
    state = dataclasses.replace(state, params=jax.tree.map(lambda x: x + 0.5 * jnp.sin(9.0 * x + 1.0), state.params))
    _, segment, last = jax.jit(learner.collect)(state, jax.random.key(1))
    assert last.acting is not None
    key = jax.random.key(2)
    noted = jax.jit(learner.reevaluate)(state.params, segment, last, key)
    again = jax.jit(learner.reevaluate)(state.params, segment, dataclasses.replace(last, acting=None), key)
    valid = np.asarray(segment.trajectory.valid)
    for one, other in zip(jax.tree.leaves(noted), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one[valid], other[valid], rtol=1e-4, atol=1e-5)
    assert np.abs(again.actor_carries).max() > 1e-3
    # Old experience, and what is replayed beside the new, was collected by other parameters.
    for old in (programs(env, window=2, **settings), programs(DEATH, algorithm="dop", replay_segments=2)):
        assert jax.eval_shape(old.learner.collect, jax.eval_shape(old.learner.init, key), key)[2].acting is None


def test_a_replayed_window_starts_from_the_memory_of_its_first_row():
    """Trap 5: with the parameters kept as they are, the whole window is on-policy, whatever row it begins at."""
    _, _, found, _, _ = experienced(MEMORY, 3, window=2, rollout_length=6)
    joined, evaluation = found.segment, found.evaluation
    assert not joined.trajectory.is_first[0].all()  # it begins within episodes
    assert joined.trajectory.valid.all()
    np.testing.assert_allclose(evaluation.log_ratios, 0.0, atol=1e-5)
    assert np.abs(joined.actor_carry).max() > 1e-3


def test_memory_before_an_episode_has_no_effect_on_it():
    p, params, found, _, _ = experienced(DEATH, 2, **CHUNKED)
    joined, evaluation = found.segment, found.evaluation
    other = dataclasses.replace(joined, actor_carry=joined.actor_carry + 1, critic_carry=joined.critic_carry - 1)
    last = Last(p.learner.view(p.init(jax.random.key(0))), joined.trajectory.is_first[-1])
    again = p.learner.reevaluate(params, other, last, jax.random.key(0))
    begun = np.asarray(jax.lax.cummax(joined.trajectory.is_first.astype(jnp.int32), axis=0)) > 0
    np.testing.assert_allclose(again.critic.values[begun], evaluation.critic.values[begun], atol=1e-6)
    assert np.abs(again.critic.values - evaluation.critic.values)[~begun].max() > 1e-4


@pytest.mark.parametrize("algorithm", ["gpae", pytest.param("dae", marks=pytest.mark.slow)])
def test_experience_is_evaluated_alike_whole_and_in_blocks(algorithm, monkeypatch):
    """Draws included: what is chosen on rows that were not executed does not depend on the blocks."""
    p, params, found, _, _ = experienced(STAY, 2, algorithm=algorithm)
    assert not found.segment.trajectory.valid.all()
    last = Last(p.learner.view(p.init(jax.random.key(0))), found.segment.trajectory.is_first[-1])

    def reevaluate():
        return jax.jit(p.learner.reevaluate)(params, found.segment, last, jax.random.key(3))

    whole = reevaluate()
    monkeypatch.setattr(blocks, "COLUMNS", 4)
    for x, y in zip(jax.tree.leaves(reevaluate()), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


# -- rows at a time limit ------------------------------------------------------------------------------------------


def test_a_time_limit_is_bootstrapped_from_its_final_observation_and_a_termination_is_not():
    """Traps 2 and 3."""
    p, _, found, _, _ = experienced(STAY, 2, lambda_=0.0)
    trajectory, evaluation, targets = found.segment.trajectory, found.evaluation, found.targets
    ended_by_limit = np.asarray(trajectory.truncated & trajectory.valid)[:-1]
    shown = np.asarray(~trajectory.valid)[1:]
    np.testing.assert_array_equal(ended_by_limit, shown)  # the row after shows the final observation
    assert not np.asarray(trajectory.is_first)[1:][shown].any()  # with the memory of the episode
    assert ended_by_limit.any()
    assert trajectory.terminated.any()
    rewards = np.asarray(trajectory.rewards)[..., None]
    continues = ~np.asarray(trajectory.terminated)[..., None]
    gamma = p.config.algorithm.gamma
    expected = (
        rewards + gamma * continues * np.asarray(evaluation.critic.next_values) - np.asarray(evaluation.critic.values)
    )
    executed = np.asarray(trajectory.valid)
    np.testing.assert_allclose(np.asarray(targets.advantages)[executed], expected[executed], atol=1e-5)
    np.testing.assert_allclose(evaluation.critic.next_values[:-1], evaluation.critic.values[1:], atol=0)


def test_rows_that_were_not_executed_count_nowhere():
    p, _, _, batch, carries = experienced(STAY, 2)
    invalid = ~np.asarray(batch.value_mask)
    assert invalid.any()
    assert not np.asarray(batch.policy_mask)[invalid].any()
    spoilt = dataclasses.replace(
        batch, targets=jax.tree.map(lambda x: jnp.where(batch.value_mask, x, 1e6), batch.targets)
    )
    step = jax.jit(lambda b: p.learner.minibatch_step(p.init(jax.random.key(0)), b, carries)[0].params)
    for x, y in zip(jax.tree.leaves(step(batch)), jax.tree.leaves(step(spoilt)), strict=True):
        np.testing.assert_array_equal(x, y)


# -- the dead ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask_dead", [True, False])
def test_dead_agents_change_no_gradient_of_the_policy(mask_dead):
    """Trap 4: unless the switch is off."""
    p, params, _, batch, carries = experienced(DEATH, 2, mask_dead=mask_dead, **CHUNKED)
    alive = np.asarray(batch.trajectory.view.action_mask).all(-1)
    spoilt = with_advantages(batch, jnp.where(alive, batch.targets.advantages, batch.targets.advantages + 50.0))

    @jax.jit
    def gradient(batch):
        """As if the dead could choose, so that their one legal action is no other reason."""
        view = dataclasses.replace(batch.trajectory.view, action_mask=jnp.ones_like(batch.trajectory.view.action_mask))
        free = dataclasses.replace(batch, trajectory=dataclasses.replace(batch.trajectory, view=view))
        return jax.grad(lambda q: p.learner.policy_loss(q, free, carries.actor)[0])(params.actor)

    _, measured = p.learner.policy_loss(params.actor, batch, carries.actor)
    _, spoilt_measured = p.learner.policy_loss(params.actor, spoilt, carries.actor)
    same = np.allclose(measured["policy_loss"], spoilt_measured["policy_loss"])
    assert same == mask_dead
    pairs = zip(jax.tree.leaves(gradient(batch)), jax.tree.leaves(gradient(spoilt)), strict=True)
    assert all(np.array_equal(x, y) for x, y in pairs) == mask_dead
    # The entropy is a mean over those who can choose, where the dead are masked.
    assert (measured["entropy"] > 0.6) == mask_dead


def test_advantage_statistics_leave_out_the_dead_but_values_run_through_death():
    _, _, found, batch, _ = experienced(DEATH, 2, **CHUNKED)
    joined, evaluation, targets = found.segment, found.evaluation, found.targets
    acting = np.asarray(batch.policy_mask)
    chosen = np.asarray(batch.targets.advantages)[acting]
    np.testing.assert_allclose([chosen.mean(), chosen.std()], [0.0, 1.0], atol=1e-4)
    # A dead agent's rows after its death carry the team's later reward back to what it did.
    alive = np.asarray(joined.trajectory.view.alive)
    assert (np.asarray(targets.critic_targets)[~alive] != np.asarray(evaluation.critic.values)[~alive]).all()


# -- one array of probabilities, one permutation ---------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["gpae", "gpae-state", "mappo", "ippo"])
def test_the_batch_reproduces_the_values_of_the_targets(algorithm):
    """Traps 6 and 7: the critic's loss sees the very inputs that values and targets were made from, in one order."""
    p, params, _, batch, carries = experienced(DEATH, 2, algorithm=algorithm, **WINDOW)
    rows = batch.trajectory
    values = p.learner.critic().apply(params.critic, batch.inputs, rows.is_first, carries.critic).values
    np.testing.assert_allclose(values, batch.evaluation.critic.values, atol=1e-5)
    pi = p.learner.policy(params.actor, rows, carries.actor)
    np.testing.assert_allclose(pi.own_slot, batch.evaluation.own_slot, atol=1e-5)
    np.testing.assert_allclose(pi.log_prob(batch.evaluation.actions), batch.evaluation.log_probs, atol=1e-5)


def test_minibatches_share_out_every_sequence_once_per_epoch(monkeypatch):
    p, _, _, batch, carries = experienced(DEATH, 2, **CHUNKED)
    shape = batch.targets.advantages.shape
    tagged = with_advantages(batch, jnp.broadcast_to(jnp.arange(24.0)[None, :, None], shape))
    tagged_carries = jax.tree.map(
        lambda x: jnp.broadcast_to(jnp.arange(24.0).reshape(24, *(1,) * (x.ndim - 1)), x.shape), carries
    )
    seen = []

    def record(self, spec, params, piece, carry):
        jax.debug.callback(lambda *x: seen.append(x), piece.advantages[0, :, 0], carry[:, 0, 0])
        return 0.0 * sum(x.sum() for x in jax.tree.leaves(params)), {}

    monkeypatch.setattr(ActorCritic, "policy_loss", record)
    p.learner.optimise(p.init(jax.random.key(0)), tagged, tagged_carries, jax.random.key(3))
    jax.effects_barrier()
    assert len(seen) == 4
    for batch_tags, carry_tags in seen:
        np.testing.assert_array_equal(batch_tags, carry_tags)
    for epoch in (seen[:2], seen[2:]):
        assert sorted(np.concatenate([tags for tags, _ in epoch]).tolist()) == list(range(24))


@pytest.mark.slow
def test_the_critic_makes_passes_of_its_own():
    """The actor is the same whatever the critic's passes are; fewer of them are the first ones of more."""
    after, metrics, counts = {}, {}, {}
    for passes in (None, 1, 2, 3):
        p = programs(TEAM, critic_epochs=passes)
        assert p.config.algorithm.optimisation.steps == 4
        state, metrics[passes] = p.update(p.init(jax.random.key(0)))
        after[passes] = state.params
        counts[passes] = (int(state.optimiser.actor[1].count), int(state.optimiser.critic[1].count))
        assert state.gradient_steps == 4
    assert counts == {None: (4, 4), 1: (4, 2), 2: (4, 4), 3: (4, 6)}
    jax.tree.map(np.testing.assert_array_equal, after[None], after[2])
    jax.tree.map(np.testing.assert_array_equal, metrics[None], metrics[2])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), after[2].actor, after[3].actor)
    assert metrics[3]["policy_loss"] == pytest.approx(float(metrics[2]["policy_loss"]), rel=1e-5)
    assert metrics[1]["value_loss"] > metrics[2]["value_loss"] > metrics[3]["value_loss"] > 0
    assert all(np.isfinite(v) for v in metrics[1].values())
    for one, other in ((1, 2), (2, 3)):
        moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), after[one].critic, after[other].critic)
        assert max(jax.tree.leaves(moved)) > 1e-5


# -- windows, ratios, schedules ------------------------------------------------------------------------------------


def test_rows_that_do_not_exist_yet_are_masked():
    _, _, found, batch, _ = experienced(DEATH, 1, algorithm="gpae", **WINDOW)
    joined = found.segment
    assert joined.trajectory.valid.mean() == 0.5
    np.testing.assert_array_equal(np.asarray(batch.value_mask).mean(), 0.5)
    assert np.isfinite(batch.targets.advantages).all()
    assert np.isfinite(batch.targets.critic_targets).all()


@pytest.mark.parametrize("algorithm", ["gpae", "mappo"])
def test_old_experience_is_corrected_towards_the_current_policy(algorithm):
    """Traps 6 and 8 where pi and mu differ: what is pi_old's is so everywhere, what is mu's is what was stored."""
    p, params, found, batch, carries = experienced(
        DEATH, 2, change=0.3, **({} if algorithm == "gpae" else {"algorithm": algorithm}), **WINDOW
    )
    trajectory, evaluation = found.segment.trajectory, found.evaluation
    pi = p.learner.policy(params.actor, trajectory, found.segment.actor_carry)
    current = pi.log_prob(trajectory.actions)
    np.testing.assert_allclose(evaluation.own_slot, pi.own_slot, atol=1e-5)
    np.testing.assert_allclose(evaluation.log_ratios, current - trajectory.log_probs, atol=1e-4)
    old, new = evaluation.log_ratios[:12], evaluation.log_ratios[12:]
    assert np.abs(old).max() > 0.05  # another policy acted then
    # This one acted now; in an episode that began under the other its memory differs, as it should.
    begun = np.asarray(jax.lax.cummax(trajectory.is_first[12:].astype(jnp.int32), axis=0)) > 0
    np.testing.assert_allclose(new[begun], 0.0, atol=1e-5)
    assert begun.any()

    chunks = replay.to_chunks((trajectory.log_probs, current), 4)
    np.testing.assert_array_equal(batch.trajectory.log_probs, chunks[0])
    np.testing.assert_allclose(batch.evaluation.log_probs, chunks[1], atol=1e-4)

    ratios = np.asarray(evaluation.log_ratios, np.float64)
    if algorithm == "mappo":
        ratios = np.broadcast_to(ratios.sum(-1, keepdims=True), ratios.shape)
    arrays = (
        *(trajectory.rewards, evaluation.critic.values, evaluation.critic.next_values),
        *(trajectory.terminated, trajectory.truncated, ratios),
    )
    chosen = p.config.algorithm
    settings = {"gamma": chosen.gamma, "lambda_": 0.95, "trace": chosen.trace, "eta": chosen.eta}
    for e in range(p.config.algorithm.experience.envs):
        advantages, critic_targets = reference.gpae(*(np.asarray(x)[:, e] for x in arrays), **settings)
        np.testing.assert_allclose(found.targets.advantages[:, e], advantages, atol=1e-4)
        np.testing.assert_allclose(found.targets.critic_targets[:, e], critic_targets, atol=1e-4)
    # The surrogate's gradient at pi_old carries rho_old = pi_old / mu.
    weights = jnp.exp(batch.evaluation.log_probs - batch.trajectory.log_probs)
    _, measured = p.learner.policy_loss(params.actor, batch, carries.actor)
    acting = np.asarray(batch.policy_mask)
    np.testing.assert_allclose(
        measured["policy_loss"], -np.mean((weights * batch.targets.advantages)[acting]), atol=1e-4
    )


# -- corrections: bootstrap, weights, interventions ----------------------------------------------------------------


def rows_of(found):
    """The critic's inputs over the executed rows, where episodes begin, and the carry before each row."""
    trajectory, evaluation = found.segment.trajectory, found.evaluation
    before = jnp.concatenate([found.segment.critic_carry[None], evaluation.critic.carries[:-1]])
    return critic_input(trajectory, evaluation), trajectory.is_first, before


def variant(p, **settings):
    """Another learner of the same environment, to call without compiling anything."""
    return Learner(p.config.replace(**settings).algorithm, p.env, p.budget)


def others(log_ratios):
    return np.asarray(log_ratios, np.float64).sum(-1, keepdims=True) - log_ratios


def test_a_step_branched_off_the_memory_equals_the_unrolled_one():
    p, params, found, _, _ = experienced(DEATH, 2, change=0.3, **WINDOW)
    branched = p.learner.branch(params.critic, *rows_of(found))
    np.testing.assert_allclose(branched, found.evaluation.critic.values, atol=1e-5)


def test_the_weighted_bootstrap_weighs_by_the_ratios_of_the_next_row():
    _, _, sampled, _, _ = experienced(DEATH, 2, change=0.3, **WINDOW)
    _, _, weighted, _, _ = experienced(DEATH, 2, change=0.3, bootstrap="weighted", **WINDOW)
    ratios = np.exp(others(weighted.evaluation.log_ratios))
    assert np.abs(ratios - 1).max() > 0.05
    expected = ratios[1:] * np.asarray(sampled.evaluation.critic.next_values)[:-1]
    np.testing.assert_allclose(weighted.evaluation.critic.next_values[:-1], expected, rtol=1e-4, atol=1e-6)
    # The action after the last row is drawn from pi_old itself.
    np.testing.assert_allclose(
        weighted.evaluation.critic.next_values[-1], sampled.evaluation.critic.next_values[-1], rtol=1e-5
    )


def test_the_resampled_bootstrap_has_the_mean_over_the_others_current_policies():
    p, params, found, _, _ = experienced(DEATH, 2, change=0.3, bootstrap="resampled", **WINDOW)
    inputs, is_first, before = rows_of(found)
    exact = 0.0
    for first in range(2):
        for second in range(2):
            joint = jnp.broadcast_to(jnp.array([first, second], jnp.int32), inputs.actions.shape)
            values = p.learner.branch(params.critic, dataclasses.replace(inputs, actions=joint), is_first, before)
            # Agent 0 averages over what agent 1 does, and the reverse; each own action is counted twice.
            exact += values * jnp.stack([inputs.own_slot[..., 1, second], inputs.own_slot[..., 0, first]], axis=-1) / 2
    last = Last(p.learner.view(p.init(jax.random.key(0))), jnp.ones(4, bool))
    draws = 400

    @jax.jit
    def drawn(key):
        return p.learner.reevaluate(params, found.segment, last, key).critic.next_values[:-1]

    samples = np.asarray(jax.lax.map(drawn, jax.random.split(jax.random.key(5), draws)), np.float64)
    exact = np.asarray(exact)[1:]
    error = samples.std(0) / np.sqrt(draws)
    # 6 standard errors: 1 false alarm in 500 million, of a few hundred entries.
    assert (np.abs(samples.mean(0) - exact) < 6 * error + 1e-5).all()
    assert np.abs(found.evaluation.critic.values[1:] - exact).max() > 1e-3  # those of the actions taken are others


@pytest.mark.slow
def test_the_expected_value_learns_the_mean_over_the_others_policies():
    p = programs(TEAM, bootstrap="expected", window=2, learning_rate=1e-2, anneal=False, total_steps=10_000)
    state = p.init(jax.random.key(0))
    errors = []
    for _ in range(60):
        state, metrics = p.update(state)
        errors.append(float(metrics["expected_rms_error"]))
    assert np.mean(errors[-10:]) < 0.5 * np.mean(errors[1:6])
    assert np.mean(errors[-10:]) < 0.1


def test_an_update_without_a_row_that_counts_has_finite_weights():
    """As rollouts of one row have, where all episodes were cut off a row before."""
    rows = SimpleNamespace(valid=jnp.zeros((2, 3), bool))
    evaluation = SimpleNamespace(log_ratios=jnp.ones((2, 3, 2)))
    weights = small(bootstrap="expected").algorithm.samples(rows, evaluation)["expected_weights"]
    np.testing.assert_array_equal(weights, np.zeros((2, 3, 2)))


def test_the_expected_value_is_trained_with_the_others_ratios_as_weights():
    _, _, found, batch, _ = experienced(DEATH, 2, change=0.3, bootstrap="expected", **WINDOW)
    weights, valued = np.asarray(batch.extras["expected_weights"], np.float64), np.asarray(batch.value_mask)
    ratios = np.asarray(replay.to_chunks(jnp.asarray(np.exp(others(found.evaluation.log_ratios))), 4))
    np.testing.assert_allclose(weights[valued].mean(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights[valued], ratios[valued] / ratios[valued].mean(), rtol=1e-4)


def test_the_expected_value_is_held_back_as_eq_is():
    """By `clip_values`, from where the update found it: else it runs ahead of EQ, and targets have the difference."""
    p, params, _, batch, carries = experienced(DEATH, 2, bootstrap="expected", clip=0.01, **WINDOW)
    rows, old = batch.trajectory, batch.evaluation.critic.expected

    def seen(critic):
        found = p.learner.criticise(critic, batch.inputs, rows.is_first, carries.critic)
        return found.expected, p.learner.critic_loss(critic, batch, carries.critic)[1]["expected_loss"]

    valued = np.asarray(batch.value_mask)
    expected, _ = seen(params.critic)
    np.testing.assert_allclose(np.asarray(expected)[valued], np.asarray(old)[valued], atol=1e-5)
    moved = jax.tree.map(lambda x: x + 0.1, params.critic)
    expected, loss = seen(moved)
    targets = batch.targets.critic_targets
    held, free = (losses.value_error(expected, old, targets, clip, None) for clip in (0.01, None))
    mean = [(np.asarray(batch.extras["expected_weights"] * x)[valued]).mean() for x in (held, free)]
    np.testing.assert_allclose(loss, mean[0], rtol=1e-4)
    assert mean[0] > 1.01 * mean[1]


def test_the_expected_value_moves_with_the_scale_of_values():
    p = programs(DEATH, bootstrap="expected", normalise_values=True)
    state, data = p.experience(p.init(jax.random.key(0)))
    batch, _ = p.algorithm.batch(data)
    state, batch = p.learner.rescale_values(state, batch)
    after = p.learner.criticise(state.params.critic, batch.inputs, batch.trajectory.is_first, data.segment.critic_carry)
    valued = np.asarray(batch.value_mask)
    for name in ("values", "expected"):
        old, new = getattr(data.evaluation.critic, name), getattr(batch.evaluation.critic, name)
        np.testing.assert_allclose(np.asarray(new)[valued], np.asarray(getattr(after, name))[valued], atol=1e-4)
        assert np.abs(np.asarray(new - old)).max() > 1e-3


def test_the_corrected_target_is_that_of_the_library():
    settings = {"trace": "others", "own_weight": "exact", "own_cap": 1.2}
    p, _, found, _, _ = experienced(DEATH, 2, change=0.3, bootstrap="weighted", **WINDOW)
    trajectory, evaluation = found.segment.trajectory, found.evaluation
    learner, eta = variant(p, **settings), p.config.algorithm.eta
    targets = learner.targets(trajectory, evaluation)
    traces = importance_traces(evaluation.log_ratios, trace="others", lambda_=0.95, eta=eta, own_cap=1.2)
    measured = learner.diagnose(dataclasses.replace(found, targets=targets))
    acting = np.asarray(learner.masks(trajectory)[0])
    np.testing.assert_allclose(measured["trace_mean"], np.asarray(traces)[acting].mean(), rtol=1e-5)
    assert np.exp(evaluation.log_ratios).max() > 1.2  # so that the cap is one
    arrays = (
        *(trajectory.rewards, evaluation.critic.values, evaluation.critic.next_values),
        *(trajectory.terminated, trajectory.truncated, evaluation.log_ratios),
    )
    options = {"gamma": p.config.algorithm.gamma, "lambda_": 0.95, "eta": eta} | settings
    for e in range(p.config.algorithm.experience.envs):
        expected = reference.gpae(*(np.asarray(x)[:, e] for x in arrays), **options)
        np.testing.assert_allclose(targets.advantages[:, e], expected[0], atol=1e-4)
        np.testing.assert_allclose(targets.critic_targets[:, e], expected[1], atol=1e-4)


def test_the_actor_can_weigh_by_the_others_ratios():
    p, params, found, plain, carries = experienced(DEATH, 2, change=0.3, **WINDOW)
    learner = variant(p, actor_weight="own-others")
    batch, _ = learner.batch(found)
    ratios = np.minimum(np.exp(others(found.evaluation.log_ratios)), p.config.algorithm.eta)
    weights = np.asarray(replay.to_chunks(jnp.asarray(ratios), 4))
    np.testing.assert_array_equal(batch.targets.advantages, plain.targets.advantages)
    _, measured = learner.policy_loss(params.actor, batch, carries.actor)
    own = np.exp(np.asarray(batch.evaluation.log_probs - batch.trajectory.log_probs, np.float64))
    acting = np.asarray(batch.policy_mask)
    expected = -np.mean((own * weights * batch.targets.advantages)[acting])
    np.testing.assert_allclose(measured["policy_loss"], expected, atol=1e-4)
    assert abs(expected + np.mean((own * batch.targets.advantages)[acting])) > 1e-4


@dataclasses.dataclass(frozen=True)
class Stoppable:
    """A probe whose action 0 is called stop."""

    env: object

    def __getattr__(self, name):
        return getattr(self.env, name)

    @property
    def spec(self):
        return dataclasses.replace(self.env.spec, actions=Discrete(("stop", "1")))


STOPPABLE = Stoppable(DEATH)
STOP = {"stop_agent": 1, "stop_probability": 0.3}


def test_a_stopped_agents_behaviour_is_recorded_as_the_mixture_that_it_is():
    p, params, found, _, _ = experienced(STOPPABLE, 1, num_envs=64, **STOP)
    trajectory = found.newest
    pi = p.learner.policy(params.actor, trajectory, found.segment.actor_carry)
    drawn = np.exp(pi.log_prob(trajectory.actions), dtype=np.float64)
    here = np.asarray(trajectory.view.alive) & (np.arange(2) == 1)
    mixed = np.where(here, 0.7 * drawn + 0.3 * (np.asarray(trajectory.actions) == 0), drawn)
    np.testing.assert_allclose(trajectory.log_probs, np.log(mixed), atol=1e-5)
    forced = np.asarray(trajectory.forced)
    assert not forced[~here].any()
    assert (np.asarray(trajectory.actions)[forced] == 0).all()
    rate, count = forced[here].mean(), here.sum()
    assert abs(rate - 0.3) < 5 * np.sqrt(0.21 / count)
    executed = np.asarray(trajectory.valid)
    np.testing.assert_allclose(found.evaluation.log_ratios[executed], np.log(drawn / mixed)[executed], atol=1e-5)


def test_the_advantage_gap_is_measured_where_the_agent_was_forced():
    p, _, found, _, _ = experienced(STOPPABLE, 1, num_envs=64, **STOP)
    metrics = p.learner.diagnose(found)
    newest, advantages = found.newest, np.asarray(found.targets.advantages)
    counted = np.asarray(newest.forced[..., 1] & newest.valid & newest.view.alive[..., 0])
    np.testing.assert_allclose(
        metrics["advantage_gap"], (advantages[..., 0] - advantages[..., 1])[counted].mean(), rtol=1e-4
    )
    assert metrics["stops"] == counted.sum() > 0
    steps = np.asarray(
        newest.rewards[..., None]
        + p.config.algorithm.gamma * np.where(newest.terminated[..., None], 0, found.evaluation.critic.next_values)
        - found.evaluation.critic.values
    )
    np.testing.assert_allclose(
        metrics["advantage_gap_one_step"], (steps[..., 0] - steps[..., 1])[counted].mean(), rtol=1e-3, atol=1e-6
    )


def test_an_update_hands_on_the_window_the_carries_and_a_new_key():
    p = programs(DEATH, algorithm="gpae", **WINDOW)
    states = [p.init(jax.random.key(0))]
    for _ in range(2):
        states.append(p.update(states[-1])[0])
    first, second = states[1], states[2]
    assert first.window.segments.trajectory.valid.any()
    np.testing.assert_array_equal(first.window.segments.trajectory.valid, second.window.segments.trajectory.valid)
    stored = second.window.segments
    np.testing.assert_array_equal(stored.actor_carry[0], first.carry.actor)
    np.testing.assert_array_equal(stored.critic_carry[0], first.carry.critic)
    assert np.abs(first.carry.critic).max() > 1e-3
    assert not np.array_equal(stored.trajectory.actions[0], first.window.segments.trajectory.actions[0])
    keys = [jax.random.key_data(state.key).tolist() for state in states]
    assert len({tuple(key) for key in keys}) == 3
    assert second.gradient_steps == 2 * p.config.algorithm.optimisation.steps


def test_coma_differs_from_gpae_in_the_policys_advantages_alone():
    p, _, gpae, _, _ = experienced(DEATH, 2, change=0.3, **WINDOW)
    trajectory, evaluation = gpae.segment.trajectory, gpae.evaluation
    coma = algorithm_called("coma")(
        **{f.name: getattr(p.config.algorithm, f.name) for f in dataclasses.fields(p.config.algorithm)}
    )
    targets = Learner(coma, p.env, p.budget).targets(trajectory, evaluation)
    np.testing.assert_allclose(targets.critic_targets, gpae.targets.critic_targets, atol=1e-6)
    following = np.where(trajectory.terminated[..., None], 0, evaluation.critic.next_values)
    values, gamma = np.asarray(evaluation.critic.values), p.config.algorithm.gamma
    one_step = np.asarray(trajectory.rewards)[..., None] + gamma * following - values
    np.testing.assert_allclose(targets.advantages, one_step, atol=1e-6)
    assert np.abs(targets.advantages - gpae.targets.advantages).max() > 1e-2


def test_values_are_learnt_from_scaled_rewards():
    p, _, found, _, _ = experienced(DEATH, 2, change=0.3, **WINDOW)
    scaled = variant(p, reward_scale=3.0)
    tripled = dataclasses.replace(found.segment.trajectory, rewards=3.0 * found.segment.trajectory.rewards)
    expected = p.learner.targets(tripled, found.evaluation)
    targets = scaled.targets(scaled.scaled(found.segment.trajectory), found.evaluation)
    np.testing.assert_array_equal(targets.advantages, expected.advantages)
    np.testing.assert_array_equal(targets.critic_targets, expected.critic_targets)
    assert np.abs(targets.critic_targets - found.targets.critic_targets).max() > 1e-2
    one_step = scaled.one_step(found.segment.trajectory, found.evaluation)
    np.testing.assert_array_equal(one_step, p.learner.one_step(tripled, found.evaluation))


def test_mappo_corrects_with_the_joint_ratio_and_the_others_with_their_own():
    log_ratios = jnp.array([[[0.5, -0.25, 1.0]]])
    joint = programs(DEATH, **WINDOW, algorithm="mappo").learner
    own = programs(DEATH, **WINDOW, algorithm="ippo").learner
    np.testing.assert_allclose(joint.correction(log_ratios), [[[1.25, 1.25, 1.25]]])
    np.testing.assert_array_equal(own.correction(log_ratios), log_ratios)


def test_the_learning_rate_counts_gradient_steps_and_ends_near_zero():
    """Trap 11."""
    p = programs(TEAM, total_steps=400)
    assert p.config.num_updates == 5  # 96 steps each: rounded up
    assert p.config.gradient_steps == 20
    state = p.init(jax.random.key(0))
    rates = []
    for _ in range(p.config.num_updates):
        state, metrics = p.update(state)
        rates.append(float(metrics["learning_rate"]))
    assert state.gradient_steps == 20
    steps = np.arange(20).reshape(5, 4).mean(1)
    np.testing.assert_allclose(rates, p.config.algorithm.optimisation.learning_rate * (1 - steps / 20), rtol=1e-5)


def test_the_entropy_bonus_moves_with_the_gradient_steps():
    """That the update takes it is in `test_settings.py`: it depends on `entropy_end`, where there is one."""
    budget = Budget(updates=5, gradient_steps=jnp.float32(20))
    moves = configure("gpae", entropy=0.4, entropy_end=0.2).algorithm
    weights = [float(moves.after(jnp.int32(done), budget).entropy) for done in (0, 5, 20)]
    np.testing.assert_allclose(weights, [0.4, 0.35, 0.2], rtol=1e-6)
    stays = configure("gpae", entropy=0.4).algorithm
    assert stays.after(jnp.int32(5), budget) is stays


@pytest.mark.slow
def test_seeds_trained_together_equal_each_trained_alone():
    p = programs(TEAM, total_steps=400)
    keys = jax.vmap(jax.random.key)(jnp.arange(2))
    together, metrics = jax.jit(jax.vmap(p.learner.update))(jax.jit(jax.vmap(p.learner.init))(keys))
    for seed in range(2):
        alone, alone_metrics = p.update(p.init(keys[seed]))
        for x, y in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(x[seed], y, atol=1e-5)
        np.testing.assert_allclose(metrics["value_loss"][seed], alone_metrics["value_loss"], rtol=1e-4)


def test_a_second_call_compiles_nothing_even_with_other_hyperparameters():
    p = programs(TEAM, total_steps=400)
    state, _ = p.update(p.init(jax.random.key(0)))
    before = p._update._cache_size()
    other = as_arrays(p.config.replace(gamma=0.5, learning_rate=0.1, clip=0.3).algorithm)
    p.update(state, other)
    assert p._update._cache_size() == before


def test_metrics_are_documented():
    from pathlib import Path

    p = programs(STOPPABLE, **WINDOW, **STOP, bootstrap="expected")
    shapes = jax.eval_shape(lambda key: p.learner.update(p.learner.init(key))[1], jax.random.key(0))
    glossary = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for name in [*shapes, "train_win_rate"]:
        assert f"`{name}`" in glossary, name


# -- wrong requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_envs": 9, "window": 2}, ["num_envs", "window"]),
        ({"chunk_length": 5}, ["chunk_length"]),
        ({"minibatches": 3}, ["minibatches"]),
        ({"gamma": 1.5}, ["--gamma"]),
        ({"lambda_": -0.1}, ["--lambda"]),
        ({"eta": 0.9}, ["--eta"]),
        ({"eta": float("inf")}, ["--eta"]),
        ({"learning_rate": float("nan")}, ["--learning-rate"]),
        ({"algorithm": "mapo"}, ["mapo", "mappo"]),
        ({"algorithm": "mappo", "trace": "dt"}, ["--trace", "dt", "none, it"]),
        ({"algorithm": "mappo", "bootstrap": "expected"}, ["--bootstrap", "gpae", "mappo"]),
        ({"own_cap": 0.5}, ["--own-cap"]),
        ({"stop_agent": 7}, ["--stop-agent 7", "0 to 2"]),
        ({"stop_agent": 0}, ["--stop-agent 0", "stop"]),
        ({"stop_agent": 0, "stop_probability": 1.5}, ["--stop-probability"]),
    ],
    ids=str,
)
def test_wrong_settings_are_named_before_anything_is_compiled(settings, words):
    with pytest.raises(UserError) as error:
        programs(TEAM, **settings)
    for word in words:
        assert word in str(error.value)

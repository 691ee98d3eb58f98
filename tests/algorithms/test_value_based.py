"""The value-based learner, stage by stage: targets by hand, schedules, what it may do, what it refuses."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpae
from gpae.algorithms import replay
from gpae.algorithms.base import Budget
from gpae.algorithms.value_based import q_targets
from gpae.envs.probes import Death, Stay, Team
from gpae.errors import UserError
from gpae.networks.distributions import epsilon_greedy
from gpae.settings import values_of
from gpae.training.config import configure
from reference.stages import Programs

SMALL = {
    "num_envs": 8,
    "rollout_length": 12,
    "total_steps": 8 * 12 * 20,
    "epochs": 2,
    "hidden_size": 8,
    "actor_identity": True,
    "replay_segments": 4,
    "replay_sequences": 16,
    "target_period": 3,
    "reward_scale": 2.0,
    "epsilon_fraction": 0.5,
    "gamma": 0.9,
    "lambda_": 0.6,
}
MIXER = {"embedding_size": 8, "hypernet_size": 8}


def small(algorithm="vdn", **settings):
    return configure(algorithm, **SMALL | (MIXER if algorithm == "qmix" else {}) | settings)


DEATH, STAY = Death(length=5), Stay(length=2, prize=0.5)
EPSILON = 0.7


@functools.cache
def sampled(env, algorithm):
    """Sequences from two rollouts with parameters that differ from the target's, and what the learner makes of them."""
    learner = Programs(small(algorithm), env).learner

    @jax.jit
    def run(key):
        state = learner.init(key)
        leaves, tree = jax.tree.flatten(state.params)
        noise = jax.random.split(jax.random.key(7), len(leaves))
        moved = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, noise, strict=True)]
        state = dataclasses.replace(state, params=jax.tree.unflatten(tree, moved))
        for i in range(2):
            state, newest = learner.collect(state, jnp.float32(EPSILON), jax.random.fold_in(key, i))
            state = dataclasses.replace(state, buffer=replay.add(state.buffer, newest))
        segment = replay.sample(state.buffer, key, 24)
        values = learner.values(state.params.actor, segment)
        return {
            "segment": segment,
            "values": values,
            "target_values": learner.values(state.target.actor, segment),
            "targets": learner.algorithm.targets(env.spec, state.target, values, segment),
            "loss": learner.loss(state.params, state.target, segment)[0],
            "log_pi": epsilon_greedy(values, segment.trajectory.view.action_mask, EPSILON).log_probs,
        }

    return jax.device_get(run(jax.random.key(1)))


def by_hand(found, team, *, ended=None, chosen_by="values", lambda_=0.6):
    """The double loop: what follows is worth sum_i Q'^i(t + 1, best legal action), the next row's target in part."""
    rows = found["segment"].trajectory
    ended = rows.terminated if ended is None else ended
    length, sequences, agents, _ = found["values"].shape
    worth = np.zeros((length, sequences, agents))
    for t, c, i in itertools.product(range(length), range(sequences), range(agents)):
        legal = np.flatnonzero(rows.view.action_mask[t, c, i])
        best = legal[np.argmax(found[chosen_by][t, c, i, legal])]
        worth[t, c, i] = found["target_values"][t, c, i, best]
    if team:
        worth = worth.sum(-1, keepdims=True)
    targets = np.zeros(worth.shape)
    targets[-1] = 2.0 * rows.rewards[-1][:, None]  # it counts where the episode ended there
    for t in reversed(range(length - 1)):
        for c in range(sequences):
            following = worth[t + 1, c]
            if not rows.truncated[t, c] and not ended[t, c]:
                following = (1 - lambda_) * following + lambda_ * targets[t + 1, c]
            targets[t, c] = 2.0 * rows.rewards[t, c] + (0.0 if ended[t, c] else 0.9 * following)
    return targets


# -- targets -------------------------------------------------------------------------------------------------------


def test_targets_across_a_termination_and_a_truncation():
    """By hand; the third row's final observation is the fourth row. The slip of JaxMARL's scripts gives others."""
    #                     goes on  ends   cut    shown   starts   shown
    rewards = np.array([[1.0], [2.0], [3.0], [0.0], [4.0], [0.0]], np.float32)
    terminated = np.array([[False], [True], [False], [False], [False], [False]])
    truncated = np.array([[False], [False], [True], [False], [True], [False]])
    executed = np.array([True, True, True, False, True, False])
    worth = np.array([[10.0], [20.0], [30.0], [40.0], [50.0], [60.0]], np.float32)[..., None]

    def found(terminated, lambda_):
        targets = q_targets(rewards, worth, terminated, truncated, gamma=0.5, lambda_=lambda_)
        return np.asarray(targets)[executed, 0, 0]

    np.testing.assert_allclose(found(terminated, 0.0), [11.0, 2.0, 23.0, 34.0])
    np.testing.assert_allclose(found(terminated, 0.5), [1.0 + 0.5 * (10.0 + 1.0), 2.0, 23.0, 34.0])
    np.testing.assert_allclose(found(terminated, 1.0), [1.0 + 0.5 * 2.0, 2.0, 23.0, 34.0])
    # `dones[:-1]` of what is stored as "done before the step": the mask of the row before.
    before = np.concatenate([[[False]], terminated[:-1]])
    np.testing.assert_allclose(found(before, 0.0), [11.0, 17.0, 3.0, 34.0])


@pytest.mark.parametrize(("env", "algorithm"), [(STAY, "vdn"), (DEATH, "iql")], ids=["stay, vdn", "death, iql"])
def test_the_learners_targets_are_those_of_a_double_loop(env, algorithm):
    """Double Q, the legal maximum, the mask at both kinds of end, the last row left out unless it ends, the scale."""
    found, team = sampled(env, algorithm), algorithm == "vdn"
    rows = found["segment"].trajectory
    valid = rows.valid
    np.testing.assert_array_equal(valid[-1], rows.terminated[-1])
    assert (rows.terminated & valid)[:-1].any()
    expected = by_hand(found, team)
    np.testing.assert_allclose(found["targets"][valid], expected[valid], rtol=1e-4, atol=1e-5)
    done = np.take_along_axis(found["values"], rows.actions[..., None], -1)[..., 0]
    done = done.sum(-1, keepdims=True) if team else done
    np.testing.assert_allclose(found["loss"], np.square(done - expected)[valid].mean(), rtol=1e-4)
    # What others do, knowingly or not, is something else here.
    before = np.concatenate([np.zeros_like(rows.terminated[:1]), rows.terminated[:-1]])
    other = {"ended": rows.terminated | rows.truncated} if env is STAY else {"chosen_by": "target_values"}
    for how in ({"ended": before}, {"lambda_": 0.0}, other):
        assert np.abs(by_hand(found, team, **how) - expected)[valid].max() > 0.05, how


def test_a_time_limit_is_valued_and_its_row_counts_nowhere():
    rows = sampled(STAY, "vdn")["segment"].trajectory
    shown = ~rows.valid[:-1]
    assert shown.any()
    cut = rows.truncated & rows.valid
    np.testing.assert_array_equal(cut[:-2], shown[1:])  # but for the last two rows, where sequences end
    assert not rows.terminated[cut].any()


@pytest.mark.parametrize("env", [DEATH, STAY], ids=["death", "stay"])
def test_replayed_sequences_begin_with_their_own_carry(env):
    """With the parameters unchanged, what was done has the probability that it was done with."""
    found = sampled(env, "iql" if env is DEATH else "vdn")
    rows = found["segment"].trajectory
    log_probs = np.take_along_axis(found["log_pi"], rows.actions[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_probs, rows.log_probs, atol=1e-4)
    assert np.abs(found["segment"].actor_carry).max() > 1e-3
    assert not rows.is_first[0].all()


# -- acting --------------------------------------------------------------------------------------------------------


def test_epsilon_greedy(strict):
    values = jnp.array([[3.0, 9.0, 5.0, 5.0], [1.0, 2.0, 0.0, 4.0]])
    legal = jnp.array([[True, False, True, True], [False, True, False, False]])
    pi = epsilon_greedy(values, legal, 0.3)
    np.testing.assert_allclose(pi.own_slot, [[0.1, 0.0, 0.8, 0.1], [0.0, 1.0, 0.0, 0.0]], atol=1e-6)
    assert np.isfinite(pi.log_probs).all()
    np.testing.assert_array_equal(pi.mode(), [2, 1])
    for epsilon in (0.0, 1.0):
        many = epsilon_greedy(jnp.tile(values, (500, 1)), jnp.tile(legal, (500, 1)), epsilon)
        drawn = np.asarray(many.sample(jax.random.key(0)))
        seen = [set(drawn[row::2].tolist()) for row in (0, 1)]
        assert seen == [{2} if epsilon == 0 else {0, 2, 3}, {1}]


def test_exploration_falls_over_its_part_of_the_training_and_is_over_at_once_where_that_is_none():
    budget = Budget(updates=20, gradient_steps=jnp.float32(1))
    for fraction, expected in ((0.5, [1.0, 0.55, 0.1, 0.1]), (0.0, [0.1] * 4)):
        algorithm = configure("iql", epsilon_start=1.0, epsilon_end=0.1, epsilon_fraction=fraction).algorithm
        found = [algorithm.epsilon(jnp.int32(done), budget) for done in (0, 5, 10, 20)]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_dead_and_all_others_do_what_is_legal():
    rows = sampled(DEATH, "iql")["segment"].trajectory
    assert not rows.view.alive.all()
    assert np.take_along_axis(rows.view.action_mask, rows.actions[..., None], -1).all()
    assert (rows.actions[~rows.view.alive] == 0).all()
    assert len(np.unique(rows.actions[rows.view.alive])) == 2


# -- updates -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def updates():
    """The states before and after each of five updates of two seeds at once, and the metrics. QMIX."""
    p = Programs(small("qmix"), DEATH)
    learner = p.learner
    states = [jax.jit(jax.vmap(learner.init))(jax.random.split(jax.random.key(0), 2))]
    update = jax.jit(jax.vmap(learner.update))
    found = []
    for _ in range(12):
        state, metrics = update(states[-1])
        states.append(state)
        found.append(metrics)
    return p, states, jax.device_get(found)


def same(x, y):
    return all(bool((a == b).all()) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True))


def test_target_networks_are_copied_on_schedule(updates):
    _, states, _ = updates
    for number, (before, after) in enumerate(itertools.pairwise(states), start=1):
        assert not same(after.params, before.params)
        assert same(after.target, after.params if number % 3 == 0 else before.target)
        assert not same(after.params.critic, before.params.critic)  # the mixer learns, and is copied, too


def test_exploration_falls_on_schedule(updates):
    p, _, metrics = updates
    assert p.config.num_updates == 20
    expected = [1.0 - 0.95 * min(i / 10, 1.0) for i in range(12)]
    np.testing.assert_allclose([m["epsilon"][0] for m in metrics], expected, atol=1e-6)


def test_what_is_measured(updates):
    _, states, metrics = updates
    assert set(metrics[0]) == {
        *("td_loss", "q_mean", "gradient_norm", "learning_rate", "parameter_norm", "epsilon"),
        *("reward_mean", "alive_fraction", "episodes", "wins"),
    }
    for m in metrics:
        for value in m.values():
            assert value.shape == (2,)
            assert np.isfinite(value).all()
    assert metrics[0]["td_loss"][0] != metrics[0]["td_loss"][1]  # the seeds are on their own
    assert (states[-1].buffer.added == 12).all()
    assert states[-1].buffer.segments.trajectory.valid.shape[:2] == (2, 4)
    assert (states[-1].gradient_steps == 24).all()
    np.testing.assert_allclose(metrics[-1]["learning_rate"], 1e-3 * (1 - (22 + 23) / 2 / 40), rtol=1e-5)


# -- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 2}, "--window belongs to gpae"),
        ({"trace": "dt"}, "--trace belongs to gpae"),
        ({"bootstrap": "weighted"}, "--bootstrap belongs to gpae, coma;"),
        ({"actor_weight": "own-others"}, "--actor-weight belongs to"),
        ({"own_weight": "exact"}, "--own-weight belongs to"),
        ({"stop_agent": 0}, "--stop-agent belongs to"),
        ({"chunk_length": 4}, "--chunk-length belongs to"),
        ({"minibatches": 2}, "--minibatches belongs to"),
        ({"embedding_size": 2}, "--embedding-size belongs to .*qmix; vdn"),
        ({"rollout_length": 1}, "at least 2"),
        ({"epsilon_end": 1.0}, "--epsilon-end is 1.0"),
        ({"epsilon_start": -0.1}, "--epsilon-start is -0.1"),
        ({"replay_segments": 0}, "--replay-segments is 0"),
        ({"target_period": 0}, "--target-period is 0"),
        ({"reward_scale": 0.0}, "--reward-scale is 0.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Programs(small(**settings), Team())


def test_presets():
    for algorithm in ("vdn", "qmix", "iql"):
        published = gpae.preset("jaxmarl", algorithm)
        expected = (
            {"num_envs": 16, "rollout_length": 128, "epochs": 8, "learning_rate": 5e-5}
            | {"anneal": False, "max_grad_norm": 10.0, "gamma": 0.99, "reward_scale": 10.0, "hidden_size": 512}
            | {"epsilon_start": 1.0, "epsilon_end": 0.05, "epsilon_fraction": 0.1, "replay_segments": 312}
            | {"replay_sequences": 32, "target_period": 10}
            | {"total_steps": 10_000_000, "actor_identity": True, "actor_layers": 1, "timeout_is_termination": True}
        )
        if algorithm == "qmix":
            expected |= {"hypernet_size": 256, "embedding_size": 64}
        found = values_of(published)
        assert {name: found[name] for name in expected} == expected
        for name in ("jaxmarl", "quickstart"):
            gpae.preset(name, algorithm).validate()
        with pytest.raises(UserError, match="paper has no settings for"):
            gpae.preset("paper", algorithm)

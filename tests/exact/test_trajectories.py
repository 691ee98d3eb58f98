"""Sampled and enumerated play lies in the estimators' layout and has the right probabilities."""

import numpy as np
import pytest

from gpae.exact import (
    enumerate_trajectories,
    estimator_arguments,
    mixed_behaviour,
    random_game,
    random_policy,
    sample_trajectories,
)
from gpae.exact.solve import joint, lift


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(20)
    game = random_game(rng, states=3, agents=2, actions=2, terminal=1)
    policy = random_policy(game, rng)
    return game, policy, mixed_behaviour(game, policy, rng, 0.5)


def sampled(case, **options):
    game, _, behaviour = case
    return sample_trajectories(game, behaviour, np.random.default_rng(0), **options)


@pytest.mark.parametrize("kind", ["sampled", "enumerated"])
def test_rows_follow_each_other(case, kind):
    game, _, behaviour = case
    if kind == "sampled":
        rollout = sampled(case, steps=6, environments=500, limit=3)
    else:
        rollout, _, _ = enumerate_trajectories(game, behaviour, steps=2)
    goes_on = ~(rollout.terminated | rollout.truncated)[:-1]
    assert 0 < goes_on.sum() < goes_on.size
    for later, now in ((rollout.states, rollout.next_states), (rollout.actions, rollout.next_actions)):
        np.testing.assert_array_equal(later[1:][goes_on], now[:-1][goes_on])
    np.testing.assert_array_equal(rollout.terminated, game.terminal[rollout.next_states])
    np.testing.assert_array_equal(rollout.rewards, game.rewards[rollout.states, rollout.actions])
    assert not game.terminal[rollout.states].any()


def test_time_limits_truncate_what_has_not_terminated(case):
    rollout = sampled(case, steps=7, environments=500, limit=3)
    age = np.zeros(500, int)
    for t in range(7):
        age += 1
        np.testing.assert_array_equal(rollout.truncated[t], (age == 3) & ~rollout.terminated[t])
        age[rollout.terminated[t] | rollout.truncated[t]] = 0
    assert rollout.truncated.any()
    assert not sampled(case, steps=7, environments=500).truncated.any()


def test_enumeration_holds_everything_that_sampling_finds(case):
    """Two steps; frequencies of 100 000 samples within five standard errors of the probabilities."""
    game, _, behaviour = case
    rollout, probability, fresh = enumerate_trajectories(game, behaviour, steps=2)
    assert fresh is None
    assert probability.sum() == pytest.approx(1, abs=1e-12)
    assert (probability > 0).all()

    def courses(rollout):
        next_actions = np.where(rollout.terminated, -1, rollout.next_actions)  # nobody reads them after an end
        parts = (rollout.states, rollout.actions, rollout.next_states, next_actions)
        return np.concatenate(parts).T

    every = {tuple(course): p for course, p in zip(courses(rollout).tolist(), probability, strict=True)}
    assert len(every) <= len(probability)
    samples = sampled(case, steps=2, environments=100_000)
    found, counts = np.unique(courses(samples), axis=0, return_counts=True)
    assert {tuple(course) for course in found.tolist()} <= set(every)
    first = rollout.states[0] * 4 + rollout.actions[0]
    exact = np.bincount(first, probability, minlength=12)
    seen = np.bincount(samples.states[0] * 4 + samples.actions[0], minlength=12) / 1e5
    assert (np.abs(seen - exact) <= 5 * np.sqrt(exact * (1 - exact) / 1e5)).all()
    ended = probability[rollout.terminated[1]].sum()
    assert abs(samples.terminated[1].mean() - ended) < 5 * np.sqrt(ended * (1 - ended) / 1e5)
    assert counts.sum() == 100_000


def test_arguments_of_the_estimator(case):
    game, policy, behaviour = case
    tables = np.random.default_rng(1).normal(size=(2, 3, 2))
    rollout = sampled(case, steps=4, environments=5)
    arguments = {
        bootstrap: estimator_arguments(game, rollout, policy, behaviour, tables, bootstrap)
        for bootstrap in ("sampled", "weighted", "expected")
    }
    fresh = np.zeros((4, 5), np.int64)
    resampled = estimator_arguments(game, rollout, policy, behaviour, tables, "resampled", fresh)["next_values"]
    for t, e, i in np.ndindex(4, 5, 2):
        own, others = (game.joint_actions[rollout.actions[t, e]][k] for k in (i, 1 - i))
        s = rollout.states[t, e]
        assert arguments["sampled"]["values"][t, e, i] == tables[i, s, others]
        log_ratio = np.log(policy[i, s, own] / behaviour[i, s, own])
        assert arguments["sampled"]["log_ratios"][t, e, i] == pytest.approx(log_ratio)
        s, others = rollout.next_states[t, e], game.joint_actions[rollout.next_actions[t, e]][1 - i]
        ratio = policy[1 - i, s, others] / behaviour[1 - i, s, others]
        assert arguments["sampled"]["next_values"][t, e, i] == tables[i, s, others]
        assert arguments["weighted"]["next_values"][t, e, i] == pytest.approx(ratio * tables[i, s, others])
        mean = (joint(game, policy)[s] * lift(game, i, tables[i])[s]).sum()
        assert arguments["expected"]["next_values"][t, e, i] == pytest.approx(mean)
        assert resampled[t, e, i] == tables[i, s, 0]


def test_wrong_requests_are_named(case):
    game, policy, behaviour = case
    rollout, tables = sampled(case, steps=2, environments=2), np.zeros((2, 3, 2))
    with pytest.raises(ValueError, match="unknown bootstrap"):
        estimator_arguments(game, rollout, policy, behaviour, tables, "drawn")
    with pytest.raises(ValueError, match="fresh must be given for the resampled bootstrap"):
        estimator_arguments(game, rollout, policy, behaviour, tables, "resampled")
    with pytest.raises(ValueError, match="more than 2000000 trajectories"):
        enumerate_trajectories(game, behaviour, steps=9)

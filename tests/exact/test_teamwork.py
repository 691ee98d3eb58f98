"""Closed forms of teams: values against enumeration, the law of the gradient against the estimators, sampled."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpae.errors import UserError
from gpae.estimators import gae, gpae
from gpae.exact import TeamGame, solve
from gpae.exact.teamwork import (
    Law,
    Team,
    coefficients,
    error_growth,
    moments,
    predicted_steps,
    values,
    worth,
)


def as_game(team, right, cues, actions=2):
    """The team with one task each as a finite game whose states are time and what is pending; action 0 is right."""
    rows = team.length + team.delay
    pending = list(itertools.product((0.0, 1.0), repeat=team.agents * team.delay))
    states = [(t, line) for t in range(rows) for line in pending] + ["end"]
    number = {state: s for s, state in enumerate(states)}
    joint = list(itertools.product(range(actions), repeat=team.agents))
    rewards = np.zeros((len(states), len(joint)))
    transitions = np.zeros((len(states), len(joint), len(states)))
    transitions[-1, :, -1] = 1
    for s, state in enumerate(states[:-1]):
        time, line = state
        for j, choice in enumerate(joint):
            done = (np.array(choice) == 0) * float(time < team.length)
            whole = np.concatenate([done[:, None], np.reshape(line, (team.agents, team.delay))], axis=1)
            rewards[s, j] = worth(whole[:, -1], team.interaction) / team.length
            after = (time + 1, tuple(whole[:, : team.delay].reshape(-1)))
            transitions[s, j, number["end" if time + 1 == rows else after]] = 1
    start = np.eye(len(states))[0]
    ends = np.arange(len(states)) == len(states) - 1
    game = TeamGame("team", team.agents, actions, transitions, rewards, team.gamma, start, ends)
    now = right[np.arange(team.agents), cues]
    policy = np.tile(np.stack([now, 1 - now], axis=-1)[:, None], (1, len(states), 1))
    return game, policy, number, joint


@pytest.mark.parametrize(
    ("agents", "delay", "interaction"), [(2, 0, 0.7), (3, 0, 0.0), (3, 1, 0.4), (2, 2, 1.0), (4, 0, 0.5)]
)
def test_values_are_those_of_the_game_solved_by_enumeration(agents, delay, interaction):
    team = Team(agents=agents, length=3, cues=1, delay=delay, interaction=interaction, gamma=0.9)
    rng = np.random.default_rng(agents)
    right = rng.uniform(0.2, 0.9, (agents, 1))
    cues = np.zeros(agents, int)
    game, policy, number, joint = as_game(team, right, cues)
    exact = solve(game, policy)
    for (time, line), s in [(k, s) for k, s in number.items() if k != "end"]:
        if time >= team.length:
            continue
        for j, choice in enumerate(joint):
            q, v, eq, advantages = values(
                team, right, cues, (np.array(choice) == 0) * 1.0, time, np.reshape(line, (agents, delay))
            )
            assert q == pytest.approx(exact.q[s, j])
            assert v == pytest.approx(exact.v[s])
            np.testing.assert_allclose(advantages, exact.advantages[:, s, j], atol=1e-12)
            np.testing.assert_allclose(eq, exact.q[s, j] - exact.advantages[:, s, j], atol=1e-12)


def test_values_are_means_over_the_tasks_to_come():
    """With several tasks: V is the mean of Q over actions, and Q the reward and V's mean over the next tasks."""
    team = Team(agents=2, length=2, cues=2, interaction=0.6, gamma=0.8)
    right = np.array([[0.3, 0.9], [0.5, 0.2]])
    nothing = np.zeros((2, 0))

    def v(cues, time):
        return values(team, right, np.array(cues), np.zeros(2), time, nothing)[1]

    following = np.mean([v(cues, 1) for cues in itertools.product(range(2), repeat=2)])
    for cues in itertools.product(range(2), repeat=2):
        now = right[np.arange(2), list(cues)]
        mean = 0.0
        for h in itertools.product((0.0, 1.0), repeat=2):
            q = values(team, right, np.array(cues), np.array(h), 0, nothing)[0]
            assert q == pytest.approx(worth(np.array(h), 0.6) / 2 + 0.8 * following)
            mean += q * np.prod(np.where(h, now, 1 - now))
        assert mean == pytest.approx(v(cues, 0))


def sampled(team, estimator, p, *, lambda_, fit, error=0.0, episodes=20_000):
    """Advantages [T, E, N] by the library's estimators on critics that know `fit` of the others' effect; and x."""
    rng = np.random.default_rng(0)
    n, rows = team.agents, team.length
    x = (rng.random((rows, episodes, n)) < p) - p
    scale = 1 / (n * rows)
    noise = team.noise / rows * rng.normal(size=(rows, episodes))
    rewards = scale * (x + p).sum(-1) + noise
    left = np.array([sum(team.gamma**m for m in range(rows - t)) for t in range(rows)]) * n * p * scale
    v = np.broadcast_to(left[:, None, None], x.shape)
    if estimator == "individual":
        fit, rewards = 0.0, (x + p) / rows + noise[..., None]
    eq = v + scale * (fit if estimator != "state" else 0.0) * (x.sum(-1, keepdims=True) - x)
    if estimator not in ("state", "individual"):
        eq = eq + error * rng.normal(size=x.shape)
    following = v if estimator == "others-expected" else eq
    following = np.concatenate([following[1:], np.zeros_like(v[:1])])
    ends = np.zeros((rows, episodes), bool)
    ends[-1] = True
    arrays = [np.asarray(a, np.float32) for a in (rewards, eq, following)]
    flags = (ends, np.zeros_like(ends))
    settings = {"gamma": team.gamma, "lambda_": 0.0 if estimator == "one-step" else lambda_}
    if estimator == "state":
        found = gae(np.repeat(arrays[0][..., None], n, axis=-1), *arrays[1:], *flags, **settings)
    else:
        found = gpae(*arrays, *flags, np.zeros_like(arrays[1]), trace="none", **settings)
    return np.asarray(found.advantages, np.float64), x


@pytest.mark.parametrize("estimator", ["state", "others", "others-expected", "one-step", "individual"])
@pytest.mark.parametrize(
    ("fit", "lambda_", "noise", "error"), [(1.0, 0.95, 0.0, 0.0), (0.6, 0.5, 0.3, 0.0), (1.0, 0.8, 0.0, 0.1)]
)
def test_the_law_of_signal_and_noise_is_what_sampling_finds(estimator, fit, lambda_, noise, error):
    """Mean and variance of the gradient and of the advantage: tasks of one's own; alike, networks shared or not."""
    p = 0.3
    team = Team(agents=6, length=4, cues=1, noise=noise, gamma=0.9)
    advantages, x = sampled(team, estimator, p, lambda_=lambda_, fit=fit, error=error)
    for alike, shared in ((False, True), (True, True), (True, False)):
        law = Law(replace(team, alike=alike, shared=shared), estimator, lambda_, fit, error)
        together = alike and shared
        terms = (x[0] * advantages[0]).sum(-1) if together else x[0, :, 2] * advantages[0, :, 2]
        found = law.gradient(p)
        assert terms.mean() == pytest.approx(found.signal, abs=4 * (found.variance / len(terms)) ** 0.5)
        assert terms.var() == pytest.approx(found.variance, rel=0.05)
        assert advantages[0, :, 2].var() == pytest.approx(law.advantage_variance(p), rel=0.05)


def test_an_exact_critic_gains_a_factor_of_n_only_where_the_bootstrap_is_expected():
    """The actions taken at the next step bring back what the baseline has removed, gamma^2 of it."""
    team = Team(agents=64, length=200, cues=1, gamma=0.99)
    laws = {e: Law(team, e, 0.95) for e in ("state", "others", "others-expected")}
    variance = {e: law.advantage_variance(0.25) for e, law in laws.items()}
    assert variance["state"] / variance["others-expected"] == pytest.approx(64)
    far = (0.99 * 0.95) ** 2
    own, others = 1 / (1 - far), 63 * 0.99**2 / (1 - far)
    assert variance["others"] / variance["others-expected"] == pytest.approx((own + others) / own, rel=1e-6)
    # Without a next step the two are one, and exact.
    last = {e: replace(law, rows=1).advantage_variance(0.25) for e, law in laws.items()}
    assert last["others"] == last["others-expected"] == pytest.approx(last["state"] / 64)


def test_what_the_published_bootstrap_gains_over_the_rows_of_an_episode():
    """2 to 3 % of the others' noise in long ones; more in short ones, since nothing follows the last row."""

    def others(estimator, length, lambda_):
        rows = (coefficients(estimator, n, gamma=0.99, lambda_=lambda_)[1] for n in range(1, length + 1))
        return sum(np.sum(w**2) for w in rows)

    gains = {
        (length, lambda_): 1 - others("others", length, lambda_) / others("state", length, lambda_)
        for length, lambda_ in ((8, 0.0), (8, 0.5), (8, 0.95), (200, 0.5), (200, 0.95))
    }
    assert gains == pytest.approx(
        {(8, 0.0): 0.142, (8, 0.5): 0.148, (8, 0.95): 0.211, (200, 0.5): 0.0235, (200, 0.95): 0.025}, abs=0.002
    )


@pytest.mark.parametrize("estimator", ["state", "others", "others-expected"])
def test_an_episodes_rows_have_less_noise_than_its_first(estimator):
    team = Team(agents=32, cues=1, alike=True, shared=False)
    rows = [Law(team, estimator, 0.95, rows=n).gradient(0.25).variance for n in range(1, team.length + 1)]
    assert 1.2 < np.sqrt(rows[-1] / np.mean(rows)) < 1.35


def test_errors_of_the_critic_grow_under_an_expected_bootstrap_alone():
    """Over eight steps at lambda .95: the published bootstrap forgets most of an error, the expected one adds to it."""
    growth = {
        (e, lambda_): error_growth(e, 8, gamma=0.99, lambda_=lambda_)
        for e in ("others", "others-expected")
        for lambda_ in (0.0, 0.5, 0.95)
    }
    assert growth["others", 0.95] < 0.15 < growth["others", 0.0] <= 1
    assert growth["others-expected", 0.0] == 0
    assert growth["others-expected", 0.5] < 1 < 2 < growth["others-expected", 0.95]


def test_sharing_a_policy_hides_the_noise_of_the_others():
    """Tasks of one's own: MAPPO's ratio falls as 1 / sqrt(N). Alike: it does not fall."""
    ratios = {}
    for alike in (False, True):
        for n in (8, 128):
            team = Team(agents=n, length=1, cues=1, alike=alike)
            ratios[alike, n] = Law(team, "state", 1.0).gradient(0.5).ratio(1)
    assert ratios[False, 8] / ratios[False, 128] == pytest.approx(4, rel=0.08)
    assert ratios[True, 8] / ratios[True, 128] == pytest.approx(1, rel=0.08)


def test_the_table_of_the_docs_is_what_the_law_says():
    page = (Path(__file__).parents[2] / "docs" / "credit-ladder.md").read_text()
    names = {"MAPPO": "state", "GPAE as published": "others", "GPAE, expected bootstrap": "others-expected"}
    for name, shared in [("MAPPO", True), *((name, False) for name in names), ("GPAE, expected bootstrap", True)]:
        row = re.search(rf"^\| {name}, {'shared' if shared else 'unshared'} \|(.*)\|$", page, re.MULTILINE)
        for agents, cell in zip((2, 8, 32, 128), row[1].split("|"), strict=True):
            team = Team(agents=agents, cues=1, alike=True, shared=shared)
            assert float(cell) == float(f"{Law(team, names[name], 0.95).gradient(0.25).ratio(128):.2g}")


def test_predicted_steps_follow_the_ratio():
    laws = {e: Law(Team(agents=32), e, 0.95) for e in ("state", "others", "others-expected")}
    steps = {e: predicted_steps(law, batch=128, speed=0.1) for e, law in laws.items()}
    assert steps["others-expected"] < steps["others"] <= steps["state"] < float("inf")
    assert predicted_steps(laws["state"], batch=128, speed=0.1, most=256) == float("inf")


def test_without_a_shared_network_tasks_alike_are_as_hard_as_tasks_of_ones_own():
    """What sharing hides comes back: noise of the others that falls as 1 / sqrt(N) in the signal, for V(s) alone."""
    p, steps = 0.25, {}
    for estimator in ("state", "others-expected"):
        own, unshared, shared = (
            Law(Team(agents=64, alike=alike, shared=share), estimator, 0.95)
            for alike, share in ((False, True), (True, False), (True, True))
        )
        assert unshared.gradient(p) == own.gradient(p)
        assert shared.gradient(p).ratio(1) > unshared.gradient(p).ratio(1)
        for law in (own, unshared, shared):
            steps[estimator, law.team.alike, law.team.shared] = predicted_steps(law, batch=128, speed=0.1)
        assert steps[estimator, True, False] == steps[estimator, False, True]
    gain = {where: steps["state", *where] / steps["others-expected", *where] for where in ((True, True), (True, False))}
    assert gain[True, False] > 2 * gain[True, True]


def test_what_has_no_law_is_refused():
    with pytest.raises(UserError, match="did you mean 'others'"):
        coefficients("other", 3, gamma=0.9, lambda_=0.9)
    with pytest.raises(ValueError, match="interaction"):
        Law(Team(interaction=0.5), "state", 0.9)
    with pytest.raises(UserError, match="did you mean 'others'"):
        Law(Team(), "other", 0.9)
    assert moments(0.5) == (0.25, 0.0625)

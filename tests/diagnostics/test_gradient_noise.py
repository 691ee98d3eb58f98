"""The noise of the policy's gradient: by hand, by its formulas, and where the law says what it is."""

import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from gpae.diagnostics.gradient_noise import (
    EXPECTED,
    OWN,
    PUBLISHED,
    STATE,
    _kinds,
    gradient_noise,
    signal_and_noise,
)
from gpae.envs.probes import Team
from gpae.envs.teamwork import Teamwork
from gpae.errors import UserError
from gpae.exact.teamwork import Law
from gpae.exact.teamwork import Team as ExactTeam
from gpae.training.config import configure

sys.path.append(str(Path(__file__).parents[2] / "studies"))

SETTINGS = {"num_envs": 8, "rollout_length": 4, "hidden_size": 8, "embedding_size": 8}


def measured(env, name="gpae", updates=8, **changes):
    """What is found of an untrained run."""
    algorithm = configure(name, **SETTINGS | changes).algorithm
    params = jax.jit(lambda key: algorithm.init(env, key).params)(jax.random.key(0))
    return gradient_noise(env, algorithm, params, jax.random.key(1), updates=updates, draws=4)


def test_signal_and_noise_by_hand():
    """Gradients (3, 1), (1, -1), (2, 0): |G|^2 is (2 + 6 + 2) / 3, the mean square 16 / 3, the noise 2."""
    gradients = np.array([[3.0, 1.0], [1.0, -1.0], [2.0, 0.0]])
    found = signal_and_noise({"it": gradients, "opposite": -2 * gradients}, steps=10.0)
    assert np.isnan(found["opposite"].times)  # three rollouts are too few
    assert found["it"].steps == pytest.approx(10 * 2 / (10 / 3))
    assert found["opposite"].steps == pytest.approx(found["it"].steps)
    many = np.tile(gradients, (20, 1))
    found = signal_and_noise({"it": many, "opposite": -2 * many}, steps=10.0)
    assert found["opposite"].times == pytest.approx(1)
    assert found["opposite"].direction == pytest.approx(-1)


def test_gradients_without_a_signal_have_no_scale():
    rows = {"it": np.array([[1.0], [-1.0], [1.0], [-1.0]]), "same": np.ones((4, 1)), "none": np.zeros((4, 1))}
    found = signal_and_noise(rows, steps=1.0)
    assert found["it"].steps == np.inf
    assert 0 < found["it"].interval[0] <= found["it"].interval[1] == np.inf
    assert found["same"].steps == 0
    assert np.isnan([found["same"].times, found["same"].direction]).all()
    assert found["it"].finite()["steps"] is None
    assert found["none"].steps == found["none"].interval[0] == np.inf
    (alone,) = signal_and_noise({"none": np.zeros((4, 1))}, steps=1.0).values()
    assert np.isnan([found["none"].times, alone.times, alone.direction]).all()
    assert alone.steps == np.inf


@pytest.mark.parametrize("mean", [0.5, 0.1, 0.0])
def test_the_interval_covers_what_is_true_where_there_is_little_signal_too(mean):
    rng, scales, covered = np.random.default_rng(0), [], 0
    mean, spread = np.full(20, mean), np.linspace(1, 2, 20)
    with np.errstate(divide="ignore"):
        true = 7 * np.sum(spread**2) / np.sum(mean**2)
    for _ in range(200):
        (found,) = signal_and_noise({"it": mean + spread * rng.standard_normal((64, 20))}, steps=7.0).values()
        scales.append(found.steps)
        covered += found.interval[0] <= true <= found.interval[1]
    assert covered >= 180
    assert np.median(scales) == pytest.approx(true, rel=0.15) if true < 1000 else np.median(scales) > 1000


def test_the_interval_is_the_jackknifes():
    gradients = 0.5 + np.random.default_rng(0).standard_normal((6, 20))
    kinds = {"it": gradients, "other": gradients + 0.1 * np.random.default_rng(1).standard_normal((6, 20))}
    of = signal_and_noise(kinds, steps=7.0)
    without = [signal_and_noise({k: np.delete(g, b, axis=0) for k, g in kinds.items()}, steps=7.0) for b in range(6)]

    def error(values):
        return 1.96 * np.sqrt(5 / 6 * np.sum((np.array(values) - np.mean(values)) ** 2))

    low, high = (1 / of["it"].steps + sign * error([1 / w["it"].steps for w in without]) for sign in (1, -1))
    np.testing.assert_allclose(of["it"].interval, [1 / low, 1 / high])
    ratio = error([np.log(w["other"].steps / w["it"].steps) for w in without])
    expected = of["other"].steps / of["it"].steps
    assert of["other"].times == pytest.approx(expected)
    np.testing.assert_allclose(of["other"].times_interval, expected * np.exp([-ratio, ratio]))


@pytest.mark.slow
@pytest.mark.parametrize(("agents", "length"), [(8, 1), (8, 4)])
def test_with_exact_values_it_is_as_large_as_the_law_says(agents, length):
    """Even play of A = 4 actions, one actor for each agent, p = 1 / A, c what one agent's achievement is worth.

    A logit's gradient is (e_a - pi) A^i, and |e_a - pi|^2 = 1 - p whatever is done: its mean square is that times the
    variance of A^i, its mean c p (e_right - pi). The steps of an episode have no covariance.
    """
    import exact_critics  # noqa: F401  # registers the algorithm

    env, lambda_ = Teamwork(agents, length, cues=1), 0.5
    steps = {
        values: measured(
            env, "exact", 400, values=values, share_parameters="critic", recurrent=False, num_envs=16,
            rollout_length=length, gamma=0.99, normalise_advantages=False, **{"lambda": lambda_},
        )[OWN].steps
        for values in ("state", "others", "expected")
    }  # fmt: skip
    of_law = {}
    for values in steps:
        estimator = "others-expected" if values == "expected" else values
        team = ExactTeam(agents=agents, length=length, cues=1)
        laws = [Law(team, estimator, lambda_, rows=rows) for rows in range(1, length + 1)]
        of_law[values] = sum(law.advantage_variance(0.25) - (law.scale * 0.25) ** 2 for law in laws)
    assert of_law["state"] > 3 * of_law["expected"]
    for values in ("others", "expected"):
        assert steps[values] / steps["state"] == pytest.approx(of_law[values] / of_law["state"], rel=0.2)


def test_without_a_future_it_does_not_matter_what_follows_a_step():
    found = measured(Teamwork(3, 4, cues=1), updates=64, num_envs=32, gamma=0.0, bootstrap="expected")
    assert list(found) == [STATE, PUBLISHED, EXPECTED, OWN]
    assert found[PUBLISHED].steps == pytest.approx(found[EXPECTED].steps)
    assert found[PUBLISHED].steps == pytest.approx(found[OWN].steps)
    assert found[PUBLISHED].steps != pytest.approx(found[STATE].steps, rel=1e-3)


def test_v_is_the_mean_of_eq_over_what_the_others_may_do():
    """Beside the resampled bootstrap, which draws it once: the mean of many evaluations with it."""
    env, learner = Teamwork(3, 4, cues=1), configure("gpae", **SETTINGS | {"num_envs": 4}).algorithm
    draws, keys = 400, jax.random.split(jax.random.key(3), 3)

    @jax.jit
    def found(key):
        state = learner.init(env, key)
        _, segment, last = learner.collect(env, state, keys[0])
        args = (env.spec, state.params, segment, last)
        evaluation = learner.reevaluate(*args, keys[1])
        kinds = _kinds(env.spec, learner, *args[1:], evaluation, (keys[1], keys[2]), draws)
        resampled = replace(learner, bootstrap="resampled")
        once = jax.lax.map(
            lambda key: resampled.reevaluate(*args, key).critic.next_values, jax.random.split(key, draws)
        )
        return {name: seen.critic for name, seen in kinds.items()}, evaluation.critic, once

    kinds, own, once = jax.tree.map(np.asarray, found(jax.random.key(4)))
    assert set(kinds) == {STATE, PUBLISHED, EXPECTED}
    error = once.std(0) * np.sqrt(2 / draws)
    assert np.median(error / np.abs(once.mean(0) - own.next_values)) < 0.2  # so that it can be told from EQ
    for kind in (EXPECTED, STATE):
        np.testing.assert_array_less(np.abs(kinds[kind].next_values - once.mean(0)), 5 * error + 1e-6)
    # The row that follows a step is the next row, an episode's last one too.
    np.testing.assert_array_equal(kinds[STATE].values[1:], kinds[STATE].next_values[:-1])
    for kind, values in ((PUBLISHED, own.values), (EXPECTED, own.values)):
        np.testing.assert_array_equal(kinds[kind].values, values)
    np.testing.assert_array_equal(kinds[PUBLISHED].next_values, own.next_values)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        pytest.param("gpae", {"window": 2, "chunk_length": 8}, marks=pytest.mark.slow),
        ("gpae", {"chunk_length": 2, "bootstrap": "resampled", "normalise_observations": True}),
        pytest.param("gpae", {"share_parameters": "false"}, marks=pytest.mark.slow),
        pytest.param("coma", {}, marks=pytest.mark.slow),
        pytest.param("mappo", {"window": 2}, marks=pytest.mark.slow),
        pytest.param("coma-q", {}, marks=pytest.mark.slow),
        pytest.param("dae", {}, marks=pytest.mark.slow),
        pytest.param("dop", {}, marks=pytest.mark.slow),
    ],
)
def test_whoever_has_a_policy_has_a_gradient(name, changes):
    found = measured(Team(), name, **changes)
    kinds = [STATE, PUBLISHED, EXPECTED] if name in ("gpae", "coma") else [OWN]
    assert list(found) == kinds + ([OWN] if "bootstrap" in changes else [])
    for x in found.values():
        assert x.steps > 0
        assert x.interval[0] <= x.steps <= x.interval[1]


@pytest.mark.parametrize("name", ["vdn", "qmix", "iql"])
def test_who_has_no_policy_is_refused(name):
    with pytest.raises(UserError, match=f"{name} learns values of actions"):
        gradient_noise(Team(), configure(name).algorithm, None, jax.random.key(0))


@pytest.mark.slow
def test_the_study_of_it_pauses_at_its_stages(tmp_path):
    import gradient_noise as study

    tiny = SETTINGS | {"steps": 256, "stages": (64, 192), "updates": 8, "held": 2}
    found = study.found("probe/team", "gpae-pooled", tiny, 2, tmp_path)
    assert [of["steps"] for of in found.values()] == [64, 64, 192]
    for of in found.values():
        assert list(of["kinds"]) == ["seed_0", "seed_1"]
    for env, settings in study.PLACES.items():
        assert study.configured(env, "gpae", settings, 1).total_steps == settings["steps"]

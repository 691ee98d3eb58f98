import numpy as np
import pytest

from gpae.report.statistics import (
    Bootstrap,
    first_reached,
    interquartile_mean,
    median,
    median_reached,
    probability_of_improvement,
)

pytest.importorskip("rliable", reason="the extra `report` is not installed")
METRICS = pytest.importorskip("rliable.metrics")


@pytest.fixture(scope="module")
def bootstrap():
    return Bootstrap(resamples=500, seed=3)


def test_the_interquartile_mean_by_hand():
    assert interquartile_mean(np.array([[0.0], [2.0], [4.0], [100.0]])) == 3.0
    assert interquartile_mean(np.arange(9.0)) == 4.0  # without 0, 1, 7, 8
    assert interquartile_mean(np.array([1.0, 2.0, 9.0])) == 4.0  # a quarter of three is none
    scores = np.random.default_rng(0).normal(size=(7, 3))
    assert interquartile_mean(scores) == pytest.approx(METRICS.aggregate_iqm(scores))


def test_the_median_is_the_runs_or_the_tasks():
    assert median(np.array([[1.0], [2.0], [9.0]])) == 2.0
    scores = np.array([[0.0, 5.0, 1.0], [2.0, 7.0, 1.0]])
    assert median(scores) == METRICS.aggregate_median(scores) == 1.0


def test_the_probability_of_improvement_by_hand():
    x, y = np.array([[1.0], [3.0]]), np.array([[2.0], [3.0], [0.0]])
    # 1 beats 0; 3 beats 2 and 0 and ties with 3
    assert probability_of_improvement(x, y) == pytest.approx((1 + 2 + 0.5) / 6)
    assert probability_of_improvement(y, x) == pytest.approx(1 - 3.5 / 6)
    draws = np.random.default_rng(1)
    x, y = draws.integers(0, 4, (5, 3)).astype(float), draws.integers(0, 4, (4, 3)).astype(float)
    assert probability_of_improvement(x, y) == pytest.approx(METRICS.probability_of_improvement(x, y))


def test_intervals_are_the_same_whatever_was_drawn_before_and_leave_the_generator_alone(bootstrap):
    scores = np.random.default_rng(2).uniform(size=(6, 2))
    first = bootstrap.aggregates(scores)
    np.random.seed(7)  # noqa: NPY002
    before = np.random.get_state()  # noqa: NPY002
    assert bootstrap.aggregates(scores) == first
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert Bootstrap(500, seed=4).aggregates(scores) != first


def test_intervals_are_those_of_the_bootstrap(bootstrap):
    scores = np.random.default_rng(5).uniform(size=(8, 2))
    found = bootstrap.aggregates(scores)
    draws = np.random.default_rng(6)
    resampled = [np.mean([scores[draws.integers(0, 8, 8), task] for task in range(2)]) for _ in range(4000)]
    assert found["mean"].value == pytest.approx(scores.mean())
    assert (found["mean"].low, found["mean"].high) == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.03)
    for interval in found.values():
        assert interval.low <= interval.value <= interval.high


def test_intervals_hold_95_percent():
    """Of three runs, of which one failed, all redrawn ones failed with 1 / 27: within 95 % and beyond 90 %."""
    found = Bootstrap(5_000, seed=0).aggregates(np.array([[0.0], [1.0], [1.0]]))
    assert (found["mean"].low, found["mean"].high) == (0.0, 1.0)
    assert (found["median"].low, found["median"].high) == (0.0, 1.0)


def test_resampling_stays_within_each_task(bootstrap):
    """Runs of a task are all alike here, so nothing can vary."""
    scores = np.tile([[0.0, 1.0, 0.4]], (5, 1))
    for interval in bootstrap.aggregates(scores).values():
        assert interval.low == interval.value == interval.high


def test_curves_and_profiles(bootstrap):
    scores = np.array([[[0.0, 0.5]], [[0.2, 0.7]], [[0.4, 0.9]], [[1.0, 1.0]]])
    curve = bootstrap.curve(scores)
    assert [point.value for point in curve] == pytest.approx([0.3, 0.8])
    profile = bootstrap.profile(scores[..., 0], [0.0, 0.2, 0.9, 1.0])
    assert [point.value for point in profile] == [1.0, 0.75, 0.25, 0.25]  # the run of 100 % is seen at 100 %
    assert bootstrap.improvement(scores[..., 1], scores[..., 0]).value == pytest.approx(12.5 / 16)


def test_one_run_has_an_interval_of_no_width(bootstrap):
    assert set(bootstrap.aggregates(np.array([[0.3]]))["iqm"]) == {0.3}


def test_when_a_win_rate_was_reached():
    assert first_reached([10, 20, 30], [0.1, 0.8, 0.5], 0.8) == 20.0
    assert first_reached([10, 20], [0.1, 0.2], 0.5) is None
    assert median_reached([10.0, None, 30.0]) == 30.0
    assert median_reached([10.0, None]) is None
    assert median_reached([None]) is None
    assert median_reached([]) is None

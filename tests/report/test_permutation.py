import math

import numpy as np
import pytest
from scipy import stats

from gpae.report.permutation import DRAWS, holm, permutation_test, smallest_corrected


def column(*values):
    return np.array(values, float)[:, None]


def difference(x, y, axis=-1):
    return np.mean(x, axis=axis) - np.mean(y, axis=axis)


def test_three_runs_against_three_cannot_get_below_a_tenth():
    found = permutation_test(column(0.9, 0.8, 0.7), column(0.1, 0.2, 0.3))
    assert found == (pytest.approx(0.6), 0.1, 0.1, True)  # two of the 20 share-outs
    assert smallest_corrected([found] * 3) == pytest.approx(0.3)
    assert permutation_test(column(0.5), column(0.1)).smallest == 1.0


def test_a_p_value_by_hand():
    # Sums of two of {0, 1, 2, 3}: 1, 2, 3, 3, 4, 5; that of 3 and 1 is 4: two of six are as large.
    found = permutation_test(column(3, 1), column(0, 2))
    assert found.p == pytest.approx(2 * 2 / 6)


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 6), (5, 5), (2, 7)])
def test_exact_p_values_are_those_of_scipy(n, m):
    draws = np.random.default_rng(n + m)
    for _ in range(5):
        x, y = draws.integers(0, 6, n) / 10, draws.integers(0, 6, m) / 10  # with ties
        theirs = stats.permutation_test((x, y), difference, n_resamples=np.inf, vectorized=True)
        found = permutation_test(column(*x), column(*y))
        assert found.exact
        assert found.p == pytest.approx(theirs.pvalue)
        assert found.smallest == 2 / math.comb(n + m, n)
        assert permutation_test(column(*y), column(*x)).p == pytest.approx(found.p)


def test_alike_runs_differ_by_nothing_and_rounding_adds_nothing():
    assert permutation_test(column(0.1, 0.2, 0.3), column(0.3, 0.1, 0.2)).p == 1.0
    assert permutation_test(column(1, 1, 1, 1), column(1, 1, 1, 1)) == (0.0, 1.0, 2 / 70, True)


def test_runs_change_sides_within_their_task_alone():
    """The tasks' own level is no difference of methods, and tasks that agree say more than one alone."""
    x, y = np.array([[0.2, 0.9], [0.1, 0.8]]), np.array([[0.0, 0.7], [-0.1, 0.6]])
    found = permutation_test(x, y)
    assert found.exact
    assert found.difference == pytest.approx(0.2)
    each = [permutation_test(x[:, [task]], y[:, [task]]).p for task in range(2)]
    assert each == pytest.approx([2 / 6, 2 / 6])
    assert found.p == pytest.approx(2 / 36)  # one of 6 x 6, on either side


def test_where_not_all_share_outs_can_be_counted_some_are_drawn_from_a_seed():
    draws = np.random.default_rng(0)
    x, y = draws.normal(0.5, 1, 12), draws.normal(0, 1, 12)
    found = permutation_test(column(*x), column(*y), seed=3)
    assert not found.exact
    assert found.smallest == 2 / (DRAWS + 1)
    assert found == permutation_test(column(*x), column(*y), seed=3)
    assert found.p != permutation_test(column(*x), column(*y), seed=4).p
    exact = stats.ttest_ind(x, y, equal_var=True).pvalue  # near enough with 24 normal runs
    assert found.p == pytest.approx(exact, abs=0.02)
    # Over tasks the draws are independent: the same runs twice are no certainty, but more of it.
    assert permutation_test(np.stack([x, x], 1), np.stack([y, y], 1)).p < found.p


def test_under_no_difference_small_p_values_are_as_rare_as_they_say():
    draws = np.random.default_rng(1)
    p = np.array([permutation_test(draws.normal(size=(5, 1)), draws.normal(size=(5, 1))).p for _ in range(1000)])
    for level in (0.05, 0.1, 0.3):
        assert np.mean(p <= level) <= level + 3 * math.sqrt(level * (1 - level) / 1000)
    assert np.mean(p <= 0.1) > 0.05


def test_holms_correction_by_hand():
    p = {("a", "b"): 0.01, ("a", "c"): 0.04, ("b", "c"): 0.03}
    assert holm(p) == {
        ("a", "b"): pytest.approx(0.03),
        ("a", "c"): pytest.approx(0.06),
        ("b", "c"): pytest.approx(0.06),
    }
    assert list(holm(p)) == list(p)
    assert holm({("a", "b"): 0.7, ("a", "c"): 0.8}) == {("a", "b"): 1.0, ("a", "c"): 1.0}
    assert holm({}) == {}


def test_ten_against_ten_is_counted_in_full():
    draws = np.random.default_rng(2)
    x, y = draws.normal(size=(10, 1)), draws.normal(size=(11, 1))
    assert permutation_test(x, y[:10]).exact
    assert not permutation_test(x, y).exact


def test_what_rounding_left_does_not_tell_ties_apart():
    """Means of thirty evaluations, kept with six digits: p is that of the whole numbers behind them."""
    rng, sooner = np.random.default_rng(0), 0
    for _ in range(40):
        x, y = rng.integers(0, 8, (2, 5, 1))
        exact = permutation_test(x, y).p
        kept = [np.round(side / 30, 6) for side in (x, y)]
        assert permutation_test(*kept, rounding=5e-7).p == exact
        sooner += permutation_test(*kept).p < exact
    assert sooner > 0

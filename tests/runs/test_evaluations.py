import json
from pathlib import Path

import pytest

from gpae.errors import UserError
from gpae.runs.evaluations import EVALUATIONS, Entry, entries, lacking, of_algorithm, read_evaluations

STEP = {"step_count": 10, "elapsed_time": 1.5, "win_rate": [0, 0.5], "return": 2}
FILE = Path("theirs.json")


def nest(seed, **others):
    return {"smax": {"3m": {"gpae": {"seed_0": seed, **others}}}}


def with_metric(value, name="win_rate"):
    return nest({"step_0": STEP, "step_1": STEP | {"step_count": 20, name: value}})


def test_seeds_come_in_the_order_of_the_file_with_numbers_of_one_kind():
    content = {
        "smax": {"3m": {"a": {"seed_1": {"step_0": STEP, "absolute_metrics": {"win_rate": [1]}}, "42": {}}}},
        "probe": {"probe": {"b": {"seed_0": {"step_0": {"step_count": 1e6}}}}},
    }
    found = entries(content, FILE)
    assert found == [
        Entry(
            "smax/3m",
            "a",
            "seed_1",
            {
                "step_0": {"step_count": 10, "elapsed_time": 1.5, "win_rate": [0.0, 0.5], "return": 2.0},
                "absolute_metrics": {"win_rate": [1.0]},
            },
        ),
        Entry("smax/3m", "a", "42", {}),
        Entry("probe", "b", "seed_0", {"step_0": {"step_count": 1_000_000}}),
    ]
    assert isinstance(found[-1].steps["step_0"]["step_count"], int)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], r"win_rate is \[\], not a number per episode"),
        (None, "win_rate is null, not a finite number or a list of them"),
        ("0.5", 'win_rate is "0.5", not a finite number or a list'),
        (True, "win_rate is true, not a finite number or a list"),
        ({}, r"win_rate is \{\}, not a finite number or a list"),
        (float("nan"), "win_rate is NaN, not a finite number"),
        ([0.5, float("nan")], "win_rate/1 is NaN, not a finite number"),
        ([float("-inf")], "win_rate/0 is -Infinity, not a finite number"),
        ([None], "win_rate/0 is null, not a finite number"),
        (["1"], 'win_rate/0 is "1", not a finite number'),
        ([True], "win_rate/0 is true, not a finite number"),
        ([[0.5], [0.5, 1]], r"win_rate/0 is \[0.5\], not a finite number"),
        ([0.5, [1]], r"win_rate/1 is \[1\], not a finite number"),
        (10**400, "win_rate is a whole number of more than 30 digits, not a finite number"),
        ([1e300, 1e300], r"win_rate/0 is 1e\+300, not a finite number"),
    ],
)
def test_holes_in_metrics_are_named_with_file_seed_step_and_metric(value, words):
    with pytest.raises(
        UserError, match=f"^theirs.json is not in the marl-eval schema: smax/3m/gpae/seed_0/step_1/{words}"
    ):
        entries(with_metric(value), FILE)


@pytest.mark.parametrize("count", ["1e6", None, -1, 1.5, True, [10], float("nan"), float("inf"), 10**30])
def test_step_counts_are_whole_numbers(count):
    with pytest.raises(UserError, match=r"seed_0/step_1/step_count is .*, not a whole number of at least 0"):
        entries(with_metric(count, "step_count"), FILE)
    with pytest.raises(UserError, match="seed_0/step_0/step_count is missing"):
        entries(nest({"step_0": {"win_rate": [1]}}), FILE)


@pytest.mark.parametrize("time", ["1", None, [1.5], float("nan")])
def test_elapsed_time_is_a_number(time):
    with pytest.raises(UserError, match=r"seed_0/step_1/elapsed_time is .*, not a finite number"):
        entries(with_metric(time, "elapsed_time"), FILE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "the whole of it is .*, not a mapping of families"),
        ("text", "the whole of it is .*, not a mapping of families"),
        ({"smax": 3}, "smax is 3, not a mapping of tasks"),
        ({"smax": {"3m": []}}, r"smax/3m is \[\], not a mapping of algorithms"),
        ({"smax": {"3m": {"gpae": None}}}, "smax/3m/gpae is null, not a mapping of seeds"),
        (nest([STEP]), "smax/3m/gpae/seed_0 is .*, not a mapping of evaluations"),
        (nest({"step_0": [1]}), r"smax/3m/gpae/seed_0/step_0 is \[1\], not a mapping of metrics"),
    ],
)
def test_what_is_nested_otherwise_is_named(content, words):
    with pytest.raises(UserError, match=f"theirs.json is not in the marl-eval schema: {words}.*; correct it"):
        entries(content, FILE)


def test_with_a_list_for_problems_the_seed_concerned_is_left_out():
    content = {
        "smax": {
            "3m": {
                "a": {"seed_0": {"step_0": STEP}, "seed_1": {"step_0": STEP | {"win_rate": [None]}}, "seed_2": {}},
                "b": 3,
                "c": {"seed_0": {"step_0": STEP}},
            }
        },
        "mpe": None,
    }
    problems = []
    assert [(e.algorithm, e.seed) for e in entries(content, FILE, problems)] == [
        ("a", "seed_0"),
        ("a", "seed_2"),
        ("c", "seed_0"),
    ]
    assert [p.split(": ")[1].split(", not")[0] for p in problems] == [
        "smax/3m/a/seed_1/step_0/win_rate/0 is null",
        "smax/3m/b is 3",
        "mpe is null",
    ]
    with pytest.raises(UserError, match="the whole of it"):
        entries(None, FILE, [])


def test_a_run_directorys_own_evaluations_are_checked_where_they_are_read(tmp_path):
    assert read_evaluations(tmp_path) == {}
    (tmp_path / EVALUATIONS).write_text(json.dumps(nest({"step_0": STEP})))
    assert read_evaluations(tmp_path) == nest({"step_0": STEP})
    (tmp_path / EVALUATIONS).write_text(json.dumps(with_metric("0.5")))
    with pytest.raises(
        UserError, match=r"evaluations\.json is not in the marl-eval schema: smax/3m/gpae/seed_0/step_1"
    ):
        read_evaluations(tmp_path)


@pytest.mark.parametrize("content", [{}, {"smax": 3}, {"smax": {"3m": [1]}}, nest(3), nest([1]), nest(None)])
def test_a_run_whose_evaluations_are_nested_otherwise_has_not_finished(content):
    assert lacking(content, "smax/3m", "gpae", [0, 1]) == ["seed_0", "seed_1"]
    assert of_algorithm(content, "smax/3m", "other") == {}

import json

import pytest

from gpae.errors import UserError
from gpae.report.build import build
from gpae.report.differences import differences, settings_that_differ
from gpae.report.load import load
from gpae.report.statistics import Bootstrap
from gpae.report.tables import markdown
from gpae.training.config import configure
from reference.runs import VERSIONS, write_run

pytest.importorskip("rliable", reason="the extra `report` is not installed")


def config(algorithm="gpae", **changes):
    return configure(algorithm, **{"env": "smax/3m", "total_steps": 8192, "evaluation_episodes": 4} | changes)


def test_runs_of_a_study_are_named_and_ordered_as_it_says(tmp_path):
    write_run(tmp_path / "b", config(window=2), [[0, 0.5], [0.25, 1]], [1, 0.75])
    write_run(tmp_path / "a", config(algorithm="mappo"), [[0, 1]], [1])
    runs = {"b": {"method": "gpae (off)", "peak_memory_mb": 10.0}, "a": {"method": "mappo (on)"}}
    (tmp_path / "study.json").write_text(json.dumps({"runs": runs, "machine": {"cores": 2}}))
    (first, second), remarks = load([tmp_path])
    assert (first.env, first.method, first.algorithm, second.method) == ("smax/3m", "gpae (off)", "gpae", "mappo (on)")
    assert remarks == []
    assert [seed.seed for seed in first.seeds] == ["seed_0", "seed_1"]
    one = first.seeds[1]
    assert one.steps == (4096, 8192)
    assert one.curves == {"win_rate": (0.25, 1.0)}
    assert one.absolute == {"win_rate": 0.75}
    assert (one.episodes, one.absolute_episodes) == (4, 40)
    assert one.source.peak_memory_mb == 10.0
    assert one.source.command == "gpae train --env smax/3m"


def test_without_a_study_methods_are_told_apart_by_their_settings(tmp_path):
    write_run(tmp_path / "a", config(), [[0.5]], [0.5])
    write_run(tmp_path / "b", config(seed=1), [[0.75]], [0.5])
    write_run(tmp_path / "c", config(window=2), [[1]], [1])
    results, _ = load([tmp_path])
    assert [(r.method, len(r.seeds)) for r in results] == [("gpae (window 1)", 2), ("gpae (window 2)", 1)]
    assert settings_that_differ(results) == {"window": {"gpae (window 1)": "1", "gpae (window 2)": "2"}}


def test_runs_of_one_name_that_were_trained_otherwise_are_told_apart(tmp_path):
    """Two studies, of which the second changed a setting; in another environment there is nothing to be told apart."""
    for name, rate, seed in (("one", 1e-3, 0), ("two", 2e-3, 1)):
        folder = tmp_path / name
        write_run(folder / "run", config(window=2, learning_rate=rate, seed=seed), [[0.5]], [0.5])
        write_run(folder / "same", config(algorithm="mappo", seed=seed), [[0.5]], [0.5])
        write_run(folder / "far", config(algorithm="mappo", seed=seed, env="smax/2s3z", gamma=0.9), [[0.5]], [0.5])
        runs = {"run": "gpae (off)", "same": "mappo", "far": "mappo"}
        record = {"runs": {run: {"method": method} for run, method in runs.items()}}
        (folder / "study.json").write_text(json.dumps(record))
    results, remarks = load([tmp_path / "one", tmp_path / "two"])
    found = {(r.env, r.method): len(r.seeds) for r in results}
    assert found == {
        ("smax/3m", "gpae (off, learning_rate 0.001)"): 1,
        ("smax/3m", "gpae (off, learning_rate 0.002)"): 1,
        ("smax/3m", "mappo"): 2,
        ("smax/2s3z", "mappo"): 2,
    }
    assert remarks == ["gpae (off): runs of this name were trained with different settings: learning_rate"]


def test_what_is_left_of_an_earlier_file_of_the_study_is_said_and_told_apart(tmp_path):
    write_run(tmp_path / "a", config(), [[0.5]], [0.5])
    write_run(tmp_path / "before", config(learning_rate=2e-3, seed=1), [[0.5]], [0.5])
    (tmp_path / "study.json").write_text(json.dumps({"runs": {"a": {"method": "gpae"}}}))
    results, remarks = load([tmp_path])
    assert [r.method for r in results] == ["gpae (learning_rate 0.001)", "gpae (learning_rate 0.002)"]
    assert remarks == [
        f"before in {tmp_path}: not in the study's file as it was run last",
        "gpae: runs of this name were trained with different settings: learning_rate",
    ]


def test_how_often_a_run_looks_and_how_long_it_trains_are_no_other_method(tmp_path):
    write_run(tmp_path / "a", config(), [[0.5, 1]], [0.5])
    write_run(tmp_path / "b", config(seed=1, total_steps=4096, evaluations=1), [[0.5]], [0.5])
    (tmp_path / "study.json").write_text(json.dumps({"runs": {name: {"method": "gpae"} for name in "ab"}}))
    ((result,), remarks) = load([tmp_path])
    assert (result.method, len(result.seeds), remarks) == ("gpae", 2, [])


def test_folders_and_files_of_one_name_have_names_of_their_own(tmp_path):
    for i, folder in enumerate(("here/quick", "there/quick")):
        write_run(tmp_path / folder / "run", config(seed=i), [[0.5]], [0.5])
    ((result,), _) = load([tmp_path / "here/quick", tmp_path / "there/quick"])
    assert [source.name for source in result.sources] == ["here/quick/run", "there/quick/run"]
    runs = [tmp_path / "here/quick/run", tmp_path / "there/quick/run"]
    ((result,), _) = load(runs)
    assert [source.name for source in result.sources] == ["here/quick/run", "there/quick/run"]
    assert load(runs[:1])[0][0].sources[0].name == "run"
    files = [tmp_path / folder / "quick/run/evaluations.json" for folder in ("here", "there")]
    ((result,), _) = load(files)
    assert [source.name for source in result.sources] == [
        "here/quick/run/evaluations.json",
        "there/quick/run/evaluations.json",
    ]


def test_unfinished_runs_are_left_out_and_said(tmp_path):
    write_run(tmp_path / "a", config(), [[0.5]], [0.5])
    write_run(tmp_path / "b", config(algorithm="mappo"), [[0.5]])
    results, (remark,) = load([tmp_path])
    assert [r.method for r in results] == ["gpae"]
    assert remark == "b is left out: it has not finished (no absolute metrics of seed_0)"
    with pytest.raises(UserError, match="no finished runs in"):
        load([tmp_path / "b"])


def test_any_file_in_the_marl_eval_schema(tmp_path):
    steps = {"step_1": {"step_count": 20, "win_rate": [50, 100]}, "step_0": {"step_count": 10, "win_rate": [0, 50]}}
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps({"smax": {"3m": {"theirs": {"42": steps}}}}))
    ((result,), remarks) = load([file])
    assert remarks == ["theirs.json: win_rate goes up to 100: all its values are taken as per cent"]
    assert (result.env, result.method) == ("smax/3m", "theirs")
    (seed,) = result.seeds
    assert seed.steps == (10, 20)
    assert seed.curves["win_rate"] == (0.25, 0.75)  # per cent are read as such
    assert seed.absolute == {}
    report = build([result], [], Bootstrap(10), title="", command="")
    assert report["timing"][0]["seconds"] is report["timing"][0]["seconds_to"] is None  # the file does not say
    assert report["environments"][0]["compared_by"] == "final"
    assert report["environments"][0]["methods"][0]["absolute"] is None
    assert "| theirs | 1 (too few) | 75.0 [75.0, 75.0] | 75.0 [75.0, 75.0] | 75.0 [75.0, 75.0] |  |" in markdown(report)
    file.write_text('{"a": {"b": {"c": 3}}}')
    with pytest.raises(UserError, match="not in the marl-eval schema"):
        load([file])
    with pytest.raises(UserError, match="there is no"):
        load([tmp_path / "nowhere"])


def test_the_same_seed_twice_is_refused(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, config(), [[0.5]], [0.5])
    with pytest.raises(UserError, match="a and b both hold seed_0 of gpae in smax/3m"):
        load([tmp_path])


def test_what_cannot_be_compared_is_said(tmp_path):
    write_run(tmp_path / "a", config(), [[0.5, 1], [0.5, 1]], [0.5, 1])
    other = config(algorithm="mappo", total_steps=16384, evaluation_episodes=2, timeout_is_termination=True)
    write_run(tmp_path / "b", other, [[0.5]], [0.5], jaxmarl="0.1.0")
    results, _ = load([tmp_path])
    said = "\n".join(differences(results))
    assert "smax/3m: steps of training differ: 8,192 (gpae); 16,384 (mappo)" in said
    assert "number of evaluations differ: 2 (gpae); 1 (mappo)" in said
    assert "episodes of an evaluation differ: 4 (gpae); 2 (mappo)" in said
    assert "episodes of the absolute evaluation differ: 40 (gpae); 20 (mappo)" in said
    assert "seeds differ: 0, 1 (gpae); 0 (mappo)" in said
    assert "timeout_is_termination differs: False (gpae); True (mappo)" in said
    assert "jaxmarl differs: 0.2.0 (gpae); 0.1.0 (mappo)" in said
    assert differences(results[:1]) == []


def test_a_run_resumed_with_other_versions_is_named(tmp_path):
    same, other = dict(VERSIONS), VERSIONS | {"jax": "0.11.2"}
    write_run(tmp_path / "a", config(), [[0.5]], [0.5], resumed=[same, other])
    results, _ = load([tmp_path])
    assert differences(results) == ["a was resumed with other versions: jax 0.10.2 to 0.11.2"]


def test_rounding_of_steps_is_told_apart(tmp_path):
    write_run(tmp_path / "a", config(total_steps=500_000), [[0.5]], [0.5])
    write_run(tmp_path / "b", config(total_steps=500_000, window=2), [[0.5]], [0.5])
    results, _ = load([tmp_path])
    assert any("differ (rounded up to whole updates)" in text for text in differences(results))


def test_return_where_nothing_is_won(tmp_path):
    write_run(tmp_path / "a", config(env="mpe/simple_spread"), [[-3.0]], [-2.0])
    results, _ = load([tmp_path])
    assert results[0].metric == "return"


# -- what foreign files do to others ---------------------------------------------------------------------------------


def foreign(tmp_path, steps, name="theirs.json", env=("smax", "3m"), method="theirs", seed="42"):
    file = tmp_path / name
    file.write_text(json.dumps({env[0]: {env[1]: {method: {seed: steps}}}}))
    return file


def at(count, **metrics):
    return {"step_count": count, **metrics}


def test_a_the_unit_of_a_rate_is_decided_over_all_values_of_a_file(tmp_path):
    """[0.78125] between values above 1 is a per cent of one battle in 128, and no 78 %."""
    file = foreign(tmp_path, {"step_0": at(1, win_rate=[0.78125]), "step_1": at(2, win_rate=[50.0])})
    ((result,), remarks) = load([file])
    assert result.seeds[0].curves["win_rate"] == (0.0078125, 0.5)
    assert "taken as per cent" in remarks[0]
    file = foreign(tmp_path, {"step_0": at(1, win_rate=[0.78125]), "step_1": at(2, win_rate=[1.0])})
    ((result,), remarks) = load([file])
    assert (result.seeds[0].curves["win_rate"], remarks) == ((0.78125, 1.0), [])


@pytest.mark.parametrize("value", [-0.5, 101, 1e9])
def test_a_a_rate_outside_both_units_is_named_and_refused(tmp_path, value):
    file = foreign(tmp_path, {"step_0": at(1, win_rate=[0.5, value])})
    with pytest.raises(UserError, match=r"theirs.json: smax/3m/theirs/42/step_0/win_rate holds"):
        load([file])


def test_b_other_spellings_of_one_environment_are_compared_and_remarked_upon(tmp_path):
    write_run(tmp_path / "ours", config(), [[0.5]], [0.5])
    file = foreign(tmp_path, {"step_0": at(1, win_rate=[0.5])}, env=("Smax", "3m"), method="rec_mappo")
    results, remarks = load([tmp_path / "ours", file])
    assert [(r.env, r.method) for r in results] == [("smax/3m", "gpae"), ("smax/3m", "rec_mappo")]
    assert remarks == ["theirs.json: environment 'Smax/3m' is taken for 'smax/3m'"]
    other = foreign(tmp_path, {"step_0": at(1, win_rate=[0.5])}, "other.json", method="REC MAPPO", seed="43")
    results, remarks = load([file, other])
    assert [(r.method, len(r.seeds)) for r in results] == [("rec_mappo", 2)]
    assert len(remarks) == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"step_count": 1, "win_rate": [float("nan")]},
        {"step_count": 1, "win_rate": []},
        {"step_count": 1, "win_rate": [None]},
        {"step_count": 1, "win_rate": "0.5"},
        {"step_count": "1e6", "win_rate": [0.5]},
        {"step_count": 1, "win_rate": [[0.5], [0.5, 1.0]]},
        {"step_count": -1, "win_rate": [0.5]},
        3,
    ],
    ids=str,
)
def test_c_a_hole_leaves_its_seed_out_and_is_named(tmp_path, broken):
    whole = {"step_0": at(1, win_rate=[0.5])}
    file = tmp_path / "theirs.json"
    file.write_text(json.dumps({"smax": {"3m": {"theirs": {"1": whole, "2": {"step_0": broken}}}}}))
    ((result,), remarks) = load([file])
    assert [seed.seed for seed in result.seeds] == ["1"]
    (remark,) = remarks
    assert all(word in remark for word in ("theirs.json", "smax/3m", "2", "step_0")), remark
    file.write_text(json.dumps({"smax": {"3m": {"theirs": {"2": {"step_0": broken}}}}}))
    with pytest.raises(UserError, match="no finished runs"):
        load([file])


def test_d_only_what_is_known_as_a_score_is_compared(tmp_path):
    """A rate that begins at the second evaluation is the score all the same; speed is none."""
    steps = {"step_0": at(1, steps_per_second=[900.0]), "step_1": at(2, steps_per_second=[900.0], win_rate=[0.5])}
    ((result,), remarks) = load([foreign(tmp_path, steps)])
    assert result.metric == "win_rate"
    assert result.seeds[0].steps == (2,)
    assert "1 of 2 evaluations of 42 of theirs in smax/3m have no win_rate and are left out" in remarks[0]
    file = foreign(tmp_path, {"step_0": at(1, steps_per_second=[900.0])})
    with pytest.raises(UserError, match=r"no score in common .*steps_per_second: choose one with --metric"):
        load([file])
    ((result,), _) = load([file], metric="steps_per_second")
    assert result.metric == "steps_per_second"
    with pytest.raises(UserError, match="--metric speed: not all runs of smax/3m have it"):
        load([file], metric="speed")


def test_e_linked_and_missing_runs_are_not_passed_over(tmp_path):
    write_run(tmp_path / "elsewhere" / "a", config(), [[0.5]], [0.5])
    study = tmp_path / "study"
    study.mkdir()
    (study / "a").symlink_to(tmp_path / "elsewhere" / "a")
    (study / "circle").symlink_to(study)
    runs = {name: {"method": name} for name in ("a", "b", "c")}
    (study / "study.json").write_text(json.dumps({"runs": runs}))
    ((result,), remarks) = load([study])
    assert len(result.seeds) == 1
    assert remarks == [f"b, c of the study in {study} have not been evaluated yet"]

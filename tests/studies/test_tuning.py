"""A tuning's file: what may be searched, and what is said of a file that is wrong."""

from pathlib import Path

import pytest

from gpae.cli import main
from gpae.settings import settings_of, values_of
from gpae.studies.file import read_study
from gpae.studies.space import Choices, Interval, combinations
from gpae.studies.tuning import Pruning, Score, read_tuning, toml
from gpae.training.presets import preset

STUDIES = Path(__file__).parents[2] / "studies"
TEXT = """\
name = "small"
preset = "quickstart"
environments = ["probe/team"]
algorithms = ["gpae", "mappo"]
first_seed = 1000
seeds = 2
steps = 1_000
evaluation = { times = 6, episodes = 8 }
trials = 10
trials_at_once = 3
score = { metric = "return", last = 2 }

[all]
num_envs = 16
rollout_length = 4
learning_rate = { low = 1e-4, high = 1e-2, log = true }
minibatches = { choices = [1, 2, 4] }
chunk_length = { choices = [2, "None"] }

[for.mappo]
learning_rate = 1e-3

[settings.on]
[settings.off]
only = ["gpae"]
window = { choices = [2, 4] }
eta = { low = 1, high = 2 }
"""


def write(tmp_path, text=TEXT):
    file = tmp_path / "tuning.toml"
    file.write_text(text)
    return file


def read(tmp_path, text=TEXT):
    return read_tuning(write(tmp_path, text), tmp_path / "runs")


def test_every_setting_of_every_algorithm_is_a_method_with_its_own_space(tmp_path):
    tuning = read(tmp_path)
    assert (tuning.path, tuning.trials, tuning.at_once) == (tmp_path / "runs" / "small", 10, 3)
    assert tuning.sampler == "tpe"
    assert tuning.pruning == Pruning(after=5, start=2, keep=0.5)
    on, mappo, off = tuning.methods
    assert [m.label for m in tuning.methods] == ["gpae (on)", "mappo (on)", "gpae (off)"]
    assert [m.name for m in tuning.methods] == [f"probe-team-{x}" for x in ("gpae-on", "mappo-on", "gpae-off")]
    common = {"minibatches": Choices((1, 2, 4)), "chunk_length": Choices((2, None))}
    rate = {"learning_rate": Interval(1e-4, 1e-2, log=True)}
    assert on.space == rate | common
    assert mappo.space == common  # a value takes the place of a range
    assert off.space == rate | common | {"window": Choices((2, 4)), "eta": Interval(1.0, 2.0)}
    assert off.score == Score("return", 2)
    assert off.shared == ("minibatches", "chunk_length", "window")
    values = {"learning_rate": 3e-3, "minibatches": 2, "chunk_length": None, "window": 4, "eta": 1.5}
    plan = {"env": "probe/team", "seed": 1000, "seeds": 2, "total_steps": 1000, "groups": 1}
    times = {"evaluations": 6, "evaluation_episodes": 8}
    expected = preset("quickstart", "gpae", num_envs=16, rollout_length=4, **values, **plan, **times)
    assert off.trial(values) == expected
    assert read(tmp_path, "prune = false\n" + TEXT).pruning is None
    assert read(tmp_path, "prune = { from = 3 }\n" + TEXT).pruning == Pruning(after=5, start=3)
    plain = read(tmp_path, TEXT.replace('score = { metric = "return", last = 2 }', 'sampler = "random"'))
    assert (plain.sampler, plain.methods[0].score) == ("random", Score("win_rate", 3))


def test_what_won_can_be_pasted_in_a_study(tmp_path):
    method = read(tmp_path).methods[-1]
    values = {"learning_rate": 1.2345678901234567e-4, "minibatches": 4, "chunk_length": None, "window": 2, "eta": 1.0}
    lines = method.lines(values)
    assert lines[0] == "[for.gpae]"
    assert "learning_rate = 0.00012345678901234567" in lines
    head = TEXT[: TEXT.index("trials")]
    (tmp_path / "pasted.toml").write_text("\n".join([head.replace(', "mappo"', ""), *lines]))
    (run,) = read_study(tmp_path / "pasted.toml", tmp_path / "runs").runs
    assert run.config == method.trial(values)


def test_values_are_written_as_toml_reads_them():
    import tomllib

    for value in (True, False, 3, 1e-5, 0.1, float("inf"), 'a"b\\c', "None"):
        assert tomllib.loads(f"x = {toml(value)}")["x"] == value
    assert tomllib.loads(f"x = {toml(('a=1', 'b=2'))}")["x"] == ["a=1", "b=2"]
    assert settings_of(preset("quickstart"))["chunk_length"].read(tomllib.loads(f"x = {toml(None)}")["x"]) is None


def test_very_many_combinations_are_checked_by_a_sample():
    space = {str(i): Choices((1, 2, 3, 4)) for i in range(6)}
    some = list(combinations(space))
    assert len(some) == 1000
    assert {value for picked in some for value in picked.values()} == {1, 2, 3, 4}
    wide = list(combinations({"a": Interval(1, 2**20), "b": Interval(5, 7, log=True)}))
    assert len(wide) == 1000
    assert wide[:2] == [{"a": 1, "b": 5}, {"a": 2**20, "b": 7}]
    assert {picked["b"] for picked in wide} == {5, 6, 7}
    few = {"a": Choices((1, 2)), "b": Interval(0.0, 1.0), "c": Interval(2, 4)}
    assert list(combinations(few)) == [{"a": a, "b": b, "c": c} for a in (1, 2) for c in (2, 3, 4) for b in (0.0, 1.0)]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("trials = 10", "trials = 0", 9, "trials: must be a whole number between 1"),
        ("trials = 10", "trails = 10", 9, "unknown key 'trails'; did you mean 'trials'"),
        ("trials_at_once = 3", "settings_at_once = 3", 10, "unknown key 'settings_at_once'"),
        ("trials_at_once = 3", 'sampler = "gp"', 10, "unknown sampler 'gp'"),
        ("trials_at_once = 3", "prune = 3", 10, "prune: must be a table"),
        ("trials_at_once = 3", "prune = { keep = 1 }", 10, "must be a number between 0 and 1"),
        ("trials_at_once = 3", "prune = { from = 7 }", 10, "prune.from: must be a whole number between 1 and 6"),
        ('"return"', '"wins"', 11, "'wins' is no score of probe/team: win_rate, return"),
        ("last = 2", "last = 7", 11, "score.last: must be a whole number between 1 and 6"),
        ("log = true", "log = 1", 16, "log must be true or false, not 1"),
        ("low = 1e-4", "low = 0", 16, "is 0.0; it must be greater than 0"),
        ("num_envs = 16", "entropy = { low = 0, high = 1, log = true }", 14, "low = 0.0 has no logarithm"),
        ("low = 1e-4", "low = 1.0", 16, "low = 1.0 must be below high = 0.01"),
        ("low = 1e-4", "least = 1e-4", 16, "unknown word 'least'"),
        (", high = 1e-2, log = true", "", 16, "must be a value, { choices = [...] }, or { low"),
        ("low = 1e-4", 'low = "a"', 16, "must be a number, not 'a'"),
        ("[1, 2, 4]", "[1]", 17, "choices must be a list of 2 to 1000 values"),
        ("[1, 2, 4]", "[1, 2, 2]", 17, "2 stands twice among the choices"),
        ("[1, 2, 4]", "[1, 2.5]", 17, "must be a whole number, not 2.5"),
        ("[1, 2, 4]", "[1, 5]", 17, "is not divisible by minibatches = 5"),
        ("{ choices = [1, 2, 4] }", "{ low = 1, high = 4 }", 17, "is not divisible by minibatches = 3"),
        ("num_envs = 16", "steps = { choices = [1, 2] }", 14, "unknown setting 'steps'"),
        ("num_envs = 16", "seed = { choices = [1, 2] }", 14, "is the same for the whole study: set 'first_seed'"),
        ("num_envs = 16", "anneal = { low = 0, high = 1 }", 14, "is no number and has no range"),
        ("num_envs = 16", 'env_options = { choices = [["a=1"], ["a=2"]] }', 14, "is a list itself"),
        ("num_envs = 16", "beta = { low = 0, high = 1 }", 14, "--beta belongs to dae"),
        ("eta = { low", "gama = { low", 27, "did you mean 'gamma'"),
    ],
)
def test_a_wrong_file_is_told_by_line_and_key(tmp_path, capsys, old, new, line, words):
    assert old in TEXT
    file = write(tmp_path, TEXT.replace(old, new))
    assert main(["tune", str(file), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert f"line {line}" in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_what_is_searched_in_vain_is_said(tmp_path, capsys):
    file = write(tmp_path, TEXT.replace("[for.mappo]", "[for.gpae]\neta = { low = 1, high = 2 }\n[for.mappo]"))
    assert main(["tune", str(file), "--runs", str(tmp_path / "runs"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "probe-team-gpae-on: --eta does nothing here" in printed
    assert "probe-team-gpae-off: --eta" not in printed
    assert "small: 61,440 steps to do at most, 3 trials in one program" in printed


def test_a_method_of_which_nothing_is_searched_is_refused(tmp_path, capsys):
    text = TEXT[: TEXT.index("[all]")] + "[for.gpae]\neta = { low = 1, high = 2 }\nwindow = 2\n"
    assert main(["tune", str(write(tmp_path, text)), "--dry-run"]) == 2
    assert "algorithms: nothing is searched for mappo in probe/team" in capsys.readouterr().err


@pytest.mark.parametrize("map_", ["5m_vs_6m", "3s_vs_5z"])
def test_shipped_tunings_give_every_method_as_much(map_, tmp_path):
    tuning = read_tuning(STUDIES / f"tune-{map_}.toml", tmp_path)
    assert tuning.path.name == f"tune-{map_}"
    spaces = {method.label: set(method.space) for method in tuning.methods}
    policy, values = spaces["mappo (on-policy)"], spaces["vdn (replay)"]
    assert spaces == {
        "gpae (on-policy)": policy,
        "mappo (on-policy)": policy,
        "ippo (on-policy)": policy,
        "qmix (replay)": values,
        "vdn (replay)": values,
        "gpae (window)": policy | {"window", "eta"},
        "mappo (window)": policy | {"window"},
    }
    assert len(policy) == len(values) == 7
    assert not any(method.remarks for method in tuning.methods)
    for method in tuning.methods:
        start = values_of(preset("quickstart", method.config.algorithm.name))
        for name, domain in method.space.items():
            if isinstance(domain, Interval) and start[name]:
                assert domain.low <= start[name] <= domain.high, name  # the preset can win
    ours = {method.config.seed for method in tuning.methods}
    studies = [read_study(STUDIES / name, tmp_path) for name in ("quick.toml", "tune.toml")]
    used = {run.config.seed + i for study in studies for run in study.runs for i in range(run.config.seeds)}
    assert not ours & used


@pytest.mark.parametrize("key", ["trials", "steps", "environments"])
def test_what_is_missing_is_named(tmp_path, capsys, key):
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith(f"{key} "))
    assert main(["tune", str(write(tmp_path, text)), "--dry-run"]) == 2
    assert f"{key} is missing" in capsys.readouterr().err

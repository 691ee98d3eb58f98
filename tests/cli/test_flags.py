"""The flags of `gpae train`: those of one algorithm, all of which do something, and no others."""

import runpy
import typing
from pathlib import Path
from typing import Annotated, Literal

import pytest

from gpae.algorithms import ALGORITHMS, MAPPO, algorithm
from gpae.cli import main
from gpae.cli.parse import gathered, parse
from gpae.cli.study import Report, Study
from gpae.cli.train import request
from gpae.errors import UserError
from gpae.exact.teamwork import error_growth
from gpae.settings import TRACED, Size, between, flag, settings, settings_of, values_of
from gpae.training.config import ExperimentConfig, RunOptions, as_dict
from gpae.training.presets import names, preset


def settings_for(name):
    return settings_of(ExperimentConfig(algorithm=ALGORITHMS[name]()))


EVERYTHING = {setting.name: setting for name in ALGORITHMS for setting in settings_for(name).values()}


def another(setting):
    """A valid value that is not the default, and the words that ask for it."""
    kind = setting.kind
    if type(None) in typing.get_args(kind):
        kind = next(k for k in typing.get_args(kind) if k is not type(None))
    if kind is bool:
        no = "no-" if setting.default else ""
        return not setting.default, [f"--{no}{setting.flag[2:]}"]
    if kind is str:
        return "probe/team", [setting.flag, "probe/team"]
    if typing.get_origin(kind) is tuple:
        return ("length=2",), [setting.flag, "length=2"]
    if typing.get_origin(kind) is Literal:
        value = next(choice for choice in typing.get_args(kind) if choice != setting.default)
    else:
        value = next(kind(x) for x in (3, 0.25, 1.5) if kind(x) in setting.range and kind(x) != setting.default)
    return value, [setting.flag, str(value)]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_flag_of_every_algorithm_is_read(name):
    expected, words = {}, []
    for setting in settings_for(name).values():
        expected[setting.name], more = another(setting)
        words += more
    config, options, _ = request(["--algorithm", name, "--preset", "none", *words, "--name", "x", "--quiet"])
    assert config.algorithm.name == name
    assert type(config.algorithm) is ALGORITHMS[name]
    assert values_of(config) == expected
    assert options == RunOptions(name="x", quiet=True)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_flag_of_another_algorithm_is_refused_with_those_that_have_it(name):
    """Before anything is imported or written that a training needs."""
    foreign = [setting for key, setting in EVERYTHING.items() if key not in settings_for(name)]
    assert foreign
    for setting in foreign:
        with pytest.raises(UserError) as error:
            request(["--algorithm", name, "--preset", "none", *another(setting)[1]])
        owners = [other for other in ALGORITHMS if setting.name in settings_for(other)]
        assert f"{setting.flag} belongs to {', '.join(owners)}; {name} has nothing" in str(error.value)


def test_a_foreign_flag_is_one_line_that_names_its_algorithm(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--algorithm", "mappo", "--beta", ".5"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "gpae: --beta belongs to dae; mappo has nothing that it would change\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("spelt", [["--beta=.5"], ["--BETA", ".5"], ["--bet", ".5"], ["--no-beta"], ["--beta_", ".5"]])
def test_no_spelling_of_a_foreign_flag_gets_through(spelt):
    with pytest.raises(UserError, match=r"(?i)bet"):
        request(["--algorithm", "mappo", *spelt])


@pytest.mark.parametrize("spelt", ["--learning-rate 0.5", "--learning_rate 0.5", "--learning-rate=0.5"])
def test_a_flag_may_be_spelt_as_python_does(spelt):
    assert request(spelt.split())[0].algorithm.optimisation.learning_rate == 0.5


def test_lambda_is_spelt_without_the_underscore_that_python_needs():
    assert request(["--lambda", "0.5"])[0].algorithm.lambda_ == 0.5
    assert request(["--algorithm", "dop", "--lambda", "0.5", "--tree-lambda", "0.25"])[0].algorithm.tree_lambda == 0.25


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("--eta 1.2", ["--eta"]),
        ("--eta 1.2 --window 4", []),
        ("--eta 1.2 --window 4 --trace it", ["--eta"]),
        ("--own-cap 2 --window 4 --trace dt", ["--own-cap"]),
        ("--own_cap 2 --window 4 --trace dt", ["--own-cap"]),
        ("--stop-probability 0.5", ["--stop-probability"]),
        ("--stop-probability 0.5 --stop-agent 0", []),
        ("--trace none --own-weight exact --actor-weight own-others", ["--actor-weight", "--own-weight", "--trace"]),
        ("--bootstrap weighted", ["--bootstrap"]),
        ("--algorithm qmix --epochs 2", []),
        ("--algorithm dae --beta 0 --ensemble 4", ["--ensemble"]),
        ("--algorithm dae --ensemble 4", []),
        ("--algorithm dop --tree-steps 1 --tree-lambda 0.5", ["--tree-lambda"]),
        # Of the preset, and not of the user's: nothing is said.
        ("--preset paper", []),
    ],
)
def test_a_flag_that_does_nothing_beside_the_others_is_said_with_the_reason(words, flags):
    remarks = request(words.split())[2]
    assert sorted(remark.split()[0] for remark in remarks) == flags
    assert all("does nothing here: " in remark and len(remark.split(": ", 1)[1]) > 10 for remark in remarks)


@pytest.mark.parametrize(
    ("words", "risky"),
    [
        ("--bootstrap expected", True),
        ("--bootstrap expected --lambda 0.8 --gamma 0.9", True),
        ("--bootstrap expected --lambda 0.7", False),
        ("--bootstrap expected --lambda 0.95 --gamma 0.7", False),
        ("--algorithm coma --bootstrap expected", True),
        ("--lambda 0.95", False),
    ],
)
def test_an_expected_bootstrap_that_looks_far_is_said_to_be_risky(words, risky):
    """Where the law has errors grow, in the limit of long episodes."""
    said = request(words.split())
    assert [remark.split(":")[0] for remark in said[2]] == ["--bootstrap expected may harm here"] * risky
    of = said[0].algorithm
    growth = error_growth("others-expected", 999, gamma=of.gamma, lambda_=of.lambda_)
    assert risky == (of.bootstrap == "expected" and growth > 1)


def test_idle_flags_are_said_on_stderr_before_anything_else(capsys, tmp_path):
    words = f"train --env probe/deth --eta 1.2 --runs {tmp_path}"
    assert main(words.split()) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "--eta does nothing here: experience is on-policy (--window 1): all ratios are 1"
    assert "probe/death" in second


@pytest.mark.parametrize("name", ALGORITHMS)
def test_help_explains_every_flag_of_the_algorithm_and_shows_no_other(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        main(["train", "--algorithm", name, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    shown = {word.rstrip(",") for line in text.splitlines() for word in line.split() if word.startswith("--")}
    own = {setting.flag for setting in settings_for(name).values()}
    assert own <= shown
    assert not {setting.flag for setting in EVERYTHING.values()} & shown - own
    for option in ("name", "runs", "overwrite", "quiet", "tensorboard", "wandb", "algorithm", "preset"):
        assert flag(option) in shown
    assert "--resume RUN" in text
    assert all(preset_name in text for preset_name in names())
    for words in ("Experience.", "Optimisation.", "Evaluation.", "Where a run is kept"):  # a box each
        assert words in text
    assert "type: ignore" not in text


def test_flags_change_the_preset_and_the_preset_is_that_of_the_algorithm():
    config, _, _ = request(["--algorithm", "qmix", "--preset", "jaxmarl", "--epsilon-end", "0.1"])
    assert config == preset("jaxmarl", "qmix", epsilon_end=0.1)
    assert request([])[0] == preset("quickstart", "gpae")
    # The last of two, wherever they stand.
    config, _, _ = request(["--seed", "3", "--preset", "none", "--algorithm", "vdn", "--preset", "quickstart"])
    assert config == preset("quickstart", "vdn", seed=3)


@pytest.fixture
def own_algorithm():
    """An algorithm with settings of its own, in a file that gpae does not know."""

    @settings
    class Sizes(type(MAPPO().experience)):
        patience: Size = 7
        """Rows to wait."""

    @algorithm("own", source="this test")
    @settings
    class Own(MAPPO):
        """An algorithm of somebody's own."""

        default: Annotated[int, between(0, 100)] = 4
        """The action to compare with."""
        mood: Annotated[float, between(0, 1), TRACED] = 0.5
        """How it feels."""
        experience: Sizes = Sizes()

    yield Own
    del ALGORITHMS["own"]


def test_an_algorithm_of_ones_own_has_flags_help_and_a_line_in_config_json(own_algorithm, capsys):
    words = ["--algorithm", "own", "--default", "3", "--mood", "0.25", "--patience", "9", "--env", "probe/team"]
    config, _, _ = request(words)
    assert type(config.algorithm) is own_algorithm
    assert (config.algorithm.default, config.algorithm.mood, config.algorithm.experience.patience) == (3, 0.25, 9)
    assert as_dict(config).items() >= {"algorithm": "own", "default": 3, "mood": 0.25, "patience": 9}.items()
    with pytest.raises(UserError, match="--default is 101; it must be between 0 and 100"):
        request(["--algorithm", "own", "--default", "101"])
    with pytest.raises(UserError, match="--patience belongs to own; gpae has nothing"):
        request(["--patience", "1"])
    with pytest.raises(SystemExit):
        request(["--algorithm", "own", "--help"])
    text = capsys.readouterr().out
    assert all(words in text for words in ("--default", "The action to compare with.", "--patience", "Rows to wait."))


@pytest.mark.parametrize(
    ("given", "others", "options"),
    [
        ("--env-options a=1 b=2 --seed 3", "--seed 3", "a=1 b=2"),
        ("--env-options a=1 --seed 3 --env_options=b=2", "--seed 3", "a=1 b=2"),
        ("--env-options a=1 NAME", "NAME", "a=1"),
        ("--env-options a", "", "a"),
    ],
)
def test_options_of_the_environment_may_be_given_in_one_flag_or_in_several(given, others, options):
    expected = [*others.split(), "--env-options", *options.split()]
    assert gathered(given.split(), "--env-options") == expected


def test_of_a_flag_that_is_given_twice_neither_is_forgotten():
    words = "--scale a=0:1 --tuning runs/t --scale b=0:2 --tuning runs/u runs/a runs/b"
    report = parse(Report, "report", words.split())
    assert report.scale == ("a=0:1", "b=0:2")
    assert report.tuning == (Path("runs/t"), Path("runs/u"))
    assert report.paths == [Path("runs/a"), Path("runs/b")]
    assert parse(Study, "study", ["--slurm", "a=1", "f.toml", "--slurm", "b=2"]).slurm == ("a=1", "b=2")


def test_a_training_has_all_options_of_its_environment():
    words = "--env probe/team --env-options length=3 --seed 4 --env-options=slope=0.5"
    config, _, _ = request(words.split())
    assert (config.env_options, config.seed) == (("length=3", "slope=0.5"), 4)


def test_the_tool_that_holds_a_change_against_the_numbers_before_it_knows_all_algorithms_and_todays_flags():
    runs = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "same_numbers.py"))["RUNS"]
    configs = [request(words.split())[0] for words in runs.values()]
    assert {config.algorithm.name for config in configs} == set(ALGORITHMS)

"""A shared policy is what its run has learnt, loads as a run does, and its card says what its files say."""

import errno
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gpae
from gpae.cli import main
from gpae.cli.train import request
from gpae.errors import UserError
from gpae.report.card import card, interval, spelt_out
from gpae.report.share import share
from gpae.runs.checkpoint import Checkpoints
from gpae.runs.directory import read_config
from gpae.training import trainer
from reference.trainings import TINY

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "data" / "run-0.1"
SHARED = Path(__file__).parents[2] / "results" / "policies"


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Two seeds of `TINY`, made by a command; not to be changed."""
    runs = tmp_path_factory.mktemp("runs")
    words = ["train", *TINY, "--seeds", "2", "--total-steps", "64", "--runs", str(runs), "--name", "both", "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{sys.prefix}/bin/gpae", *words])
        assert main(words) == 0
    return runs / "both"


@pytest.fixture(scope="session")
def shared(run, tmp_path_factory):
    """Of the run, seed 1, after 8 episodes; not to be changed."""
    return share(run, tmp_path_factory.mktemp("policies") / "mine", seed=1, episodes=8, license="apache-2.0")


def stored(path, item):
    with Checkpoints(path / "checkpoints", read_only=True) as checkpoints:
        return checkpoints.arrays(item)


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
def test_its_parameters_are_those_of_the_seed_bit_for_bit(best, seed, run, tmp_path):
    made = share(run, tmp_path / "mine", best=best, seed=seed, episodes=0)
    there, here = stored(run, "best" if best else "params"), stored(made, "params")
    assert here.keys() == there.keys()
    assert {path.split("[")[0] for path in here} == {".actor", ".critic"}
    for path, array in here.items():
        np.testing.assert_array_equal(array, there[path][seed])


def test_it_acts_as_the_run_does_bit_for_bit(run, shared):
    ours, theirs = gpae.load_policy(shared), gpae.load_policy(run, seed=1)
    assert (ours.num_agents, ours.action_names) == (theirs.num_agents, theirs.action_names)
    carries = [policy.initial_carry(5) for policy in (ours, theirs)]
    for step in range(3):
        seen = np.random.default_rng(step).normal(size=(5, ours.num_agents, ours.observation_size))
        given = seen, np.ones((5, ours.num_agents, ours.num_actions), bool)
        for key in (None, jax.random.key(step)):
            pairs = zip((ours, theirs), carries, strict=True)
            found = [policy.batch(given[0], carry, given[1], key) for policy, carry in pairs]
            for x, y in zip(*map(jax.tree.leaves, found), strict=True):
                np.testing.assert_array_equal(x, y)
        carries = [carry for _, carry in found]


def test_it_loads_without_optimiser_writer_of_checkpoints_progress_display_and_environment(shared):
    """None of them can even be imported; Flax itself imports a part of Rich."""
    program = (
        "import sys, flax.linen\n"
        "for name in ('optax', 'orbax', 'chex', 'jaxmarl', 'tyro', 'matplotlib', 'gpae.envs.probes'):\n"
        "    sys.modules[name] = None\n"
        "rich = {name for name in sys.modules if name.partition('.')[0] == 'rich'}\n"
        "import gpae, numpy as np\n"
        f"policy = gpae.load_policy({str(shared)!r}, agent=0)\n"
        "policy(np.ones(4), policy.initial_carry(), [True, True])\n"
        "sys.exit({name for name in sys.modules if name.partition('.')[0] == 'rich'} != rich)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_command_evaluates_it_as_its_card_says(shared, tmp_path, capsys):
    assert main(["evaluate", str(shared), "--episodes", "8", "--json", str(tmp_path / "found.json")]) == 0
    said = capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())["episodes"]
    assert found == json.loads((shared / "evaluation.json").read_text())["episodes"]
    text = (shared / "README.md").read_text()
    for metric, rate in (("win_rate", True), ("return", False), ("episode_length", False)):
        greedy, sampled = (found["seed_1"][kind + metric] for kind in ("", "sampled_"))
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {metric.replace('_', ' ')} |")]
        for cell, values in zip(line.split("|")[2:4], (greedy, sampled), strict=True):
            mean, low, high = interval(values, rate=rate)
            shown = "{:.1%}" if rate else "{:.4g}"
            assert cell.strip() == f"{shown} [{shown}, {shown}]".format(mean, low, high)
    assert f"{np.mean(found['seed_1']['win_rate']):.1%}" in said


def test_the_card_names_environment_algorithm_seeds_steps_versions_and_the_command(shared, run):
    text, config = (shared / "README.md").read_text(), gpae.Run(run).config
    versions = json.loads((run / "versions.json").read_text())
    for words in (
        "# mine",
        f"`{config.env}`",
        f"`{config.algorithm.name}`",
        f"{config.num_steps:,} environment steps",
        "1, of 2 that were trained (win rate of each: 0: ",
        f"JAX {versions['jax']}",
        "\ngpae train --env probe/team --preset none --actor-identity --num-envs 8",
        f"--seeds 2 --total-steps 64 --runs {run.parent.name} --name both",
        "from the run `both`",
        "Licence: apache-2.0",
        "It is one seed of 2, which in the run's own evaluations had a mean win rate of ",
    ):
        assert words in text, words
    assert text == card(shared)


def test_the_head_of_the_card_is_what_hugging_face_reads(shared):
    yaml = pytest.importorskip("yaml")
    head = yaml.safe_load((shared / "README.md").read_text().split("---")[1])
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "gpae"
    assert {"reinforcement-learning", "gpae", "probe/team"} <= set(head["tags"])
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {"name": "probe/team", "type": "probe/team"}
    played = json.loads((shared / "evaluation.json").read_text())["episodes"]["seed_1"]
    assert {metric["type"] for metric in result["metrics"]} == set(played)
    for metric in result["metrics"]:
        np.testing.assert_allclose(metric["value"], np.mean(played[metric["type"]]), rtol=1e-3)


def test_the_card_says_that_a_run_was_stopped_and_of_which_study_it_was(run, tmp_path):
    """As `gpae study` and a signal leave it: the command is a worker's, and not all steps are done."""
    copy = Path(shutil.copytree(run, tmp_path / "runs" / "ladder" / "gpae-long"))
    (copy.parent / "study.json").write_text('{"name": "ladder"}')
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"total_steps": 3200}))
    text = (share(copy, tmp_path / "mine", episodes=0) / "README.md").read_text()
    assert "from the run `gpae-long` of the study `ladder`" in text
    assert "\ngpae study ladder.toml  # its run gpae-long\n" in text
    assert "had done 64 of 3,200 environment steps" in text
    assert "--total-steps 3200" in text


@pytest.mark.parametrize(
    "words",
    [
        ["--algorithm", "qmix", "--preset", "none", "--env", "probe/team", "--hidden-size", "8"],
        [
            "--env",
            "probe/aim",
            "--preset",
            "none",
            "--hidden-size",
            "8",
            "--num-envs",
            "4",
            "--share-parameters",
            "false",
        ],
    ],
    ids=["values", "continuous, own networks"],
)
def test_other_kinds_of_policies_are_shared_too(words, tmp_path):
    rest = ["--num-envs", "4", "--rollout-length", "8", "--total-steps", "32", "--evaluation-episodes", "4"]
    config, _, _ = request([*words, *rest])
    path = trainer.train(config.replace(evaluations=1), gpae.RunOptions(runs=tmp_path, quiet=True)).path
    made = share(path, tmp_path / "mine", episodes=4)
    ours, theirs = gpae.load_policy(made, agent=1), gpae.load_policy(path, agent=1)
    for x, y in zip(*(jax.tree.leaves(policy._params) for policy in (ours, theirs)), strict=True):
        np.testing.assert_array_equal(x, y)
    assert (ours.bounds, ours.action_names) == (theirs.bounds, theirs.action_names)
    text = (made / "README.md").read_text()
    assert "of the actor" in text
    assert ("gpae inspect credit mine" in text) == ("qmix" not in words)
    assert "gpae play" not in text, "it cannot be drawn"


@pytest.mark.parametrize(
    "words",
    [
        ["--algorithm", "gpae", "--preset", "paper-off-policy", "--env", "smax/5m_vs_6m"],
        ["--algorithm", "qmix", "--env", "mpe/simple_spread", "--from", "runs/a b", "--seed", "3", "--seeds", "2"],
        ["--algorithm", "mappo", "--no-anneal", "--env-options", "version=0.1", "max_steps=50", "--groups", "2"],
    ],
)
def test_the_command_that_a_card_spells_out_asks_for_the_same_settings(words):
    config = request(words)[0]
    line = f"gpae train {shlex.join(spelt_out(config))}"
    assert request(shlex.split(line)[2:])[0] == config


def test_of_several_seeds_the_one_that_did_best_is_taken(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "both"))
    for winner in (0, 1):
        found = json.loads((copy / "evaluations.json").read_text())
        for k, steps in enumerate(found["probe"]["team"]["gpae"].values()):
            for step in steps.values():
                step["win_rate"] = [float(k == winner)] * 8
        (copy / "evaluations.json").write_text(json.dumps(found))
        for best in (False, True):
            made = share(copy, tmp_path / f"{winner}{best}", best=best, episodes=0)
            assert read_config(made)["seed"] == winner
            assert read_config(made)["seeds"] == 1
    assert "1, of 2 that were trained (win rate of each: 0: 0.0%, 1: 100.0%)" in (made / "README.md").read_text()
    assert "which in the run's own evaluations had a mean win rate of 50.0%." in (made / "README.md").read_text()
    assert "No episode was played with it" in (made / "README.md").read_text()


def test_the_best_parameters_are_those_of_the_evaluation_in_which_they_were(run, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "both"))
    found = json.loads((copy / "evaluations.json").read_text())
    steps = found["probe"]["team"]["gpae"]["seed_0"]
    for name, score in (("step_0", 1.0), ("step_1", 0.0)):
        steps[name]["win_rate"] = [score] * 8
    (copy / "evaluations.json").write_text(json.dumps(found))
    for best, at in ((True, "step_0"), (False, "step_1")):
        made = share(copy, tmp_path / str(best), best=best, seed=0, episodes=0)
        with Checkpoints(made / "checkpoints", read_only=True) as checkpoints:
            assert checkpoints.info()["env_steps"] == steps[at]["step_count"]
            assert checkpoints.latest == steps[at]["step_count"] // 32


def test_a_training_begins_from_it_and_one_cannot_go_on_from_it(shared, tmp_path, capsys, monkeypatch):
    """The former by the command of its card, beside its folder."""
    monkeypatch.chdir(shared.parent)
    before = {file: file.read_bytes() for file in shared.rglob("*") if file.is_file()}
    (line,) = [line for line in (shared / "README.md").read_text().splitlines() if "--from mine" in line]
    words = shlex.split(line, comments=True)[2:]
    assert main(["train", *words, "--runs", str(tmp_path), "--name", "next"]) == 0
    said = capsys.readouterr().out
    assert "actor, fits: " in said
    assert "begins afresh" not in said
    assert main(["train", "--resume", str(shared)]) == 2
    said = capsys.readouterr().err
    assert f"begin one from what it has learnt: gpae train --from {shared} --env probe/team --algorithm gpae" in said
    assert len(said.splitlines()) == 1
    assert before == {file: file.read_bytes() for file in shared.rglob("*") if file.is_file()}


def test_it_says_nothing_of_the_machine_that_made_it(shared, run):
    for file in shared.rglob("*"):
        if file.is_file():
            assert str(run.parent).encode() not in file.read_bytes(), file
            assert str(shared.parent).encode() not in file.read_bytes(), file
            assert os.fsencode(sys.prefix) not in file.read_bytes(), file
    assert str(run.parent).encode() in (run / "versions.json").read_bytes()


def test_it_can_be_shared_again_and_then_stays_what_it_is(shared, tmp_path):
    again = share(shared, tmp_path / "mine", episodes=8)  # with the same licence, too
    files = [
        file.relative_to(shared) for file in shared.rglob("*") if file.is_file() and file.name != "evaluation.json"
    ]
    assert len(files) > 10
    for file in files:
        assert (again / file).read_bytes() == (shared / file).read_bytes(), file
    ours, theirs = (json.loads((path / "evaluation.json").read_text())["episodes"] for path in (again, shared))
    assert ours == theirs
    share(again, again, episodes=0, overwrite=True)
    assert not (again / "evaluation.json").exists()
    assert stored(again, "params").keys() == stored(shared, "params").keys()


def test_what_gpae_0_1_has_learnt_can_be_shared_as_far_as_it_was_kept(tmp_path):
    with pytest.raises(UserError, match="kept the best critic alone: add --best"):
        share(OLD, tmp_path / "old", episodes=0)
    made = share(OLD, tmp_path / "old", best=True, episodes=0)
    action, _ = gpae.load_policy(made)(np.zeros(6), gpae.load_policy(made).initial_carry(), np.ones(2, bool))
    assert action == 1
    assert "Made with gpae 0.1" in (made / "README.md").read_text()


def test_wrong_requests_are_one_line_and_write_nothing(run, shared, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    unevaluated = Path(shutil.copytree(run, tmp_path / "unevaluated"))
    (unevaluated / "evaluations.json").unlink()
    damaged = Path(shutil.copytree(shared, tmp_path / "damaged"))
    (damaged / "shared.json").write_text('{"run": "x", "parameters": "first"}')
    before = sorted(tmp_path.rglob("*"))
    for words, said in (
        (["share", "nowhere"], "nowhere is not a gpae run directory"),
        (["share", str(run), "--episodes", "-1"], "--episodes is -1"),
        (["share", str(run), "--seed", "2"], "has seeds 0 to 1, not 2"),
        (["share", str(run), "-o", "mine"], "mine exists and is not a shared policy"),
        (["share", str(run), "-o", "mine", "--overwrite"], "mine exists and is not a shared policy"),
        (["share", str(run), "-o", "damaged/README.md/x"], "damaged/README.md is not a folder"),
        (["share", str(run), "-o", str(shared)], "replace it with --overwrite"),
        (["share", str(unevaluated), "--seed", "0", "--best"], "has not evaluated seed 0"),
        (["share", str(unevaluated)], "say which to share, --seed"),
        (["share", str(shared), "--best"], "a shared policy, which holds the last parameters alone: leave out best"),
        (["evaluate", str(shared), "--best"], "leave out best"),
        (["inspect", "critic", str(shared), "--best"], "leave out best"),
        (["evaluate", str(damaged), "--best"], 'shared.json is damaged: parameters is "first", not "last" or "best"'),
        (["share", str(damaged)], "shared.json is damaged"),
        (["train", *TINY, "--runs", str(shared.parent), "--name", "mine", "--overwrite"], "holds a shared policy"),
    ):
        assert main(words) == 2, words
        printed = capsys.readouterr().err
        assert said in printed, (said, printed)
        assert len(printed.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_where_it_cannot_be_made_nothing_is_left_and_what_was_there_stays(run, shared, tmp_path, monkeypatch):
    made = Path(shutil.copytree(shared, tmp_path / "mine"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gpae.report.share.card", full)
    with pytest.raises(UserError, match="the disk is full"):
        share(run, made, seed=0, episodes=0, overwrite=True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    assert list(tmp_path.iterdir()) == [made]


def test_it_is_replaced_where_that_is_asked_for(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        assert main(["share", str(run), "--seed", str(seed), "--episodes", "0", *["--overwrite"] * seed]) == 0
        assert read_config("policies/both")["seed"] == seed
    assert [path.name for path in Path("policies").iterdir()] == ["both"]
    assert "see policies/both/README.md" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("won", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_rates_have_wilsons_interval(won, of, low, high):
    """The last is an example of Newcombe 1998, Statistics in Medicine 17, table I; the others are 1 / (1 + n / z^2)."""
    found = interval([1.0] * won + [0.0] * (of - won), rate=True)
    np.testing.assert_allclose(found, (won / of, low, high), atol=5e-5)


def test_other_means_have_the_normal_interval():
    mean, low, high = interval([1.0, 2.0, 3.0, 4.0], rate=False)
    half = 1.959964 * np.sqrt(5 / 3 / 4)
    np.testing.assert_allclose((mean, low, high), (2.5, 2.5 - half, 2.5 + half))


# -- those of results/policies -------------------------------------------------------------------------------------

POLICIES = sorted(file.parent for file in SHARED.glob("*/shared.json"))


@pytest.mark.parametrize("folder", POLICIES, ids=lambda folder: folder.name)
def test_a_kept_policy_is_small_and_its_card_says_what_its_files_say(folder):
    assert (folder / "README.md").read_text() == card(folder), "python tools/readme.py makes cards again"
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 1_500_000
    policy = gpae.load_policy(folder)
    seen = np.zeros((2, policy.num_agents, policy.observation_size))
    actions, _ = policy.batch(seen, policy.initial_carry(2), np.ones((2, policy.num_agents, policy.num_actions), bool))
    assert actions.shape[:2] == (2, policy.num_agents)


@pytest.mark.parametrize("folder", POLICIES, ids=lambda folder: folder.name)
def test_a_kept_policy_replays_and_does_as_well_as_its_card_says(folder, tmp_path):
    assert main(["play", str(folder), "-o", str(tmp_path / "replay.gif")]) == 0
    assert (tmp_path / "replay.gif").read_bytes()[:6] == b"GIF89a"
    assert main(["evaluate", str(folder), "--episodes", "64", "--json", str(tmp_path / "found.json")]) == 0
    found, said = (
        json.loads(file.read_text())["episodes"] for file in (tmp_path / "found.json", folder / "evaluation.json")
    )
    (here,) = found.values()
    there = said[next(iter(found))]
    for metric in here:
        # The very same episodes, on another machine: most end as they did there.
        same = np.isclose(here[metric], there[metric][: len(here[metric])], rtol=1e-3)
        assert same.mean() > 0.75, metric


def test_there_are_kept_policies():
    assert POLICIES


def test_the_card_says_from_what_the_training_was_begun(run, shared, tmp_path):
    copy = Path(shutil.copytree(run, tmp_path / "both"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"from": "/home/me/runs/easy"}))
    said = (share(copy, tmp_path / "mine", episodes=0) / "README.md").read_text()
    (trained,) = [line for line in said.splitlines() if line.startswith("| trained |")]
    assert trained.endswith("; begun from what `easy` had learnt before |")
    assert "/home/me" not in said
    assert "begun from" not in (shared / "README.md").read_text()

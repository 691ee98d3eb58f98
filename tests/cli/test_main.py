"""The command line: what it prints, and how it ends."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from gpae.algorithms.learners import make_learner
from gpae.algorithms.registry import ALGORITHMS
from gpae.cli import main
from gpae.cli.commands import COMMANDS
from gpae.envs.probes import Team
from gpae.training.config import ExperimentConfig, RunOptions, flag
from gpae.training.presets import PRESETS, preset

TINY = [
    *("--env", "probe/team", "--actor-identity", "--num-envs", "8", "--rollout-length", "4"),
    *(
        "--hidden-size",
        "8",
        "--chunk-length",
        "0",
        "--embedding-size",
        "8",
        "--evaluations",
        "2",
        "--evaluation-episodes",
        "8",
    ),
]


# What was released for SMAX, and Mava's defaults (docs/presets.md).
PAPER = {
    "total_steps": 10_000_000,
    "num_envs": 128,
    "rollout_length": 128,
    "epochs": 5,
    "minibatches": 1,
    "learning_rate": 5e-4,
    "anneal": True,
    "adam_epsilon": 1e-5,
    "gamma": 0.99,
    "lambda_": 0.95,
    "clip": 0.2,
    "entropy": 0.0,
    "value_coefficient": 0.5,
    "max_grad_norm": 1.0,
    "hidden_size": 128,
    "actor_layers": 2,
    "critic_layers": 1,
    "embedding_size": 64,
    "layer_norm": True,
    "recurrent": True,
    "eta": 1.02,
    "actor_identity": False,
    "critic_identity": True,
    "timeout_is_termination": True,
    "mask_dead": False,
}
JAXMARL = {
    "num_envs": 128,
    "rollout_length": 128,
    "epochs": 4,
    "minibatches": 4,
    "learning_rate": 2e-3,
    "anneal": True,
    "adam_epsilon": 1e-5,
    "clip": 0.2,
    "clip_values": True,
    "gamma": 0.99,
    "lambda_": 0.95,
    "entropy": 0.0,
    "value_coefficient": 0.5,
    "max_grad_norm": 0.25,
    "hidden_size": 128,
    "timeout_is_termination": True,
    "mask_dead": False,
    "layer_norm": False,
}
MAVA = {
    "rollout_length": 128,
    "epochs": 4,
    "minibatches": 2,
    "learning_rate": 2.5e-4,
    "anneal": False,
    "clip": 0.2,
    "gamma": 0.99,
    "lambda_": 0.95,
    "entropy": 0.01,
    "value_coefficient": 0.5,
    "max_grad_norm": 0.5,
    "hidden_size": 128,
    "actor_identity": True,
    "num_envs": 64,
    "layer_norm": False,
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("tarin", "did you mean 'train'"),
        ("train --env smax/2s3zz", "smax/2s3z"),
        ("train --algorithm gpea", "did you mean 'gpae'"),
        ("train --preset quikstart", "did you mean 'quickstart'"),
        ("train --env probe/team --num-envs 9 --window 2", "num_envs"),
        ("train --env probe/team --minibatches 7", "minibatches could be"),
        ("train --gamma 2", "--gamma is 2.0; it must be between 0 and 1"),
        ("train --env probe/team --algorithm vdn --window 2", "--window 2: vdn learns values of actions"),
        ("train --env probe/team --algorithm qmix --preset paper", "preset paper has no settings for qmix"),
        ("evaluate nowhere --episodes 0", "--episodes is 0"),
        ("play nowhere --episode -1", "--episode is -1"),
        ("evaluate nowhere", "nowhere is not a gpae run directory"),
        ("play nowhere", "nowhere is not a gpae run directory"),
    ],
)
def test_wrong_requests_are_one_clear_line(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_flag_is_named_with_the_nearest(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--learning-rat", "1"])
    assert stop.value.code == 2
    assert "--learning-rate" in capsys.readouterr().err


def test_help_explains_every_setting(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for field in (*dataclasses.fields(ExperimentConfig), *dataclasses.fields(RunOptions)):
        assert flag(field.name) in text


def test_lists(capsys):
    assert main(["envs"]) == 0
    text = capsys.readouterr().out
    for name in ("smax/3m", "smax/27m_vs_30m", "smax/smacv2_5_units", "mpe/simple_spread", "probe/team"):
        assert name in text
    assert main(["algorithms"]) == 0
    text = capsys.readouterr().out
    for name in ("gpae", "gpae-state", "coma", "mappo", "ippo", "vdn", "qmix", "iql", *PRESETS):
        assert name in text


def test_presets_hold_the_published_settings():
    paper = dataclasses.asdict(preset("paper", "gpae"))
    assert paper.items() >= PAPER.items()
    assert paper["window"] == preset("paper", "gpae-state").window == 4
    mappo = preset("paper", "mappo")
    assert (mappo.window, mappo.embedding_size) == (1, 128)
    assert dataclasses.asdict(preset("mava", "mappo")).items() >= MAVA.items()
    assert dataclasses.asdict(preset("jaxmarl", "mappo")).items() >= JAXMARL.items()
    ippo = JAXMARL | {"learning_rate": 4e-3, "clip": 0.05, "entropy": 0.01}
    assert dataclasses.asdict(preset("jaxmarl", "ippo")).items() >= ippo.items()
    for name in PRESETS:
        for algorithm in ALGORITHMS:
            if name == "authors" and algorithm not in ("coma-q", "dae", "dop"):
                continue
            if name in ("paper", "mava") and ALGORITHMS[algorithm].value_based:
                continue
            make_learner(preset(name, algorithm), Team())


@pytest.mark.slow
def test_a_run_from_the_shell_stopped_resumed_and_evaluated(tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "COLUMNS": "200"}
    command = [sys.executable, "-m", "gpae.cli"]
    long = ["train", *TINY, "--total-steps", "100001", "--name", "run"]
    with subprocess.Popen(
        [*command, *long], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        metrics = tmp_path / "runs" / "run" / "metrics.jsonl"
        deadline = time.monotonic() + 300
        while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "100,001 steps asked for, 100,032 run: whole updates" in printed
    assert "compiling update" in printed
    assert "--resume" in errors
    assert "Traceback" not in errors

    def gpae(*arguments):
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    # The rest would take too long: that the run goes on is seen from its being refused without --resume.
    refused = gpae(*long)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    found = gpae("evaluate", "runs/run", "--episodes", "16")
    assert found.returncode == 0, found.stderr
    assert all(word in found.stdout for word in ("greedy", "sampled", "win rate", "16 episodes"))
    credited = gpae("credit", "runs/run", "-o", "credit.png")
    assert credited.returncode == 0, credited.stderr
    assert (tmp_path / "credit.png").stat().st_size > 1000
    used = gpae("critic", "runs/run", "--envs", "8", "--json", "critic.json")
    assert used.returncode == 0, used.stderr
    assert "multiplies the error by" in used.stdout
    assert json.loads((tmp_path / "critic.json").read_text())["ratio"] > 0
    ungapped = gpae("gap", "runs/run")
    assert ungapped.returncode == 2
    assert "--stop-agent" in ungapped.stderr
    undrawable = gpae("play", "runs/run")
    assert undrawable.returncode == 2
    assert "cannot be drawn" in undrawable.stderr

"""The command line: what it prints, and how it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources

import pytest

from gpae.algorithms import ALGORITHMS
from gpae.cli import main
from gpae.cli import train as train_command
from gpae.cli.commands import COMMANDS
from gpae.errors import UserError
from gpae.settings import settings_of, values_of
from gpae.training.config import configure
from gpae.training.presets import names, preset

TINY = [
    *("--env", "probe/team", "--actor-identity", "--num-envs", "8", "--rollout-length", "4"),
    *(
        "--hidden-size",
        "8",
        "--chunk-length",
        "None",
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
        ("train --env probe/team --algorithm vdn --window 2", "--window belongs to gpae"),
        ("train --algorithm mappo --beta .5", "--beta belongs to dae"),
        ("train --algorithm mappo --beta=.5", "--beta belongs to dae"),
        ("train --algorithm vdn --no-clip-values", "--clip-values belongs to"),
        ("train --learning-rat 1", "did you mean 'learning_rate'"),
        ("train --num-envs 1000000007 --window 2", "--num-envs is 1000000007"),
        ("train --hidden-size 999999999999", "--hidden-size is 999999999999"),
        ("train --preset -inf", "preset"),
        ("train --env probe/team --name ../../x", "a run cannot be named"),
        ("train --resume nowhere", "nowhere is not a gpae run directory"),
        ("train --resume nowhere --gamma 0.5", "--gamma with --resume: a run keeps its settings"),
        ("train --resume", "--resume takes the run directory"),
        ("credit nowhere", "gpae credit is now gpae inspect credit"),
        ("inspect credits nowhere", "did you mean 'credit'"),
        ("algorithms --import nowhere.py", "--import nowhere.py: there is no such file"),
        ("report nowhere --resamples 0", "--resamples is 0"),
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


def test_help_explains_every_setting(capsys):
    assert main([]) == 0
    overview = capsys.readouterr().out
    assert all(name in overview for name in COMMANDS)
    with pytest.raises(SystemExit) as stop:
        main(["train", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for setting in settings_of(preset("quickstart")).values():
        assert setting.flag in text
    for word in ("--name", "--overwrite", "--algorithm", "--preset", "networks", "optimisation", "intervention"):
        assert word in text


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_algorithm_takes_its_own_flags_and_no_others(name):
    config = configure(name)
    everything = {s.flag for cls in ALGORITHMS.values() for s in settings_of(configure(cls.name)).values()}
    own = {s.flag for s in settings_of(config).values()}
    train_command._refuse_foreign(own, config)
    assert everything - own  # each algorithm lacks something
    for foreign in everything - own:
        with pytest.raises(UserError, match=f"{foreign} belongs to .*; {name} has nothing"):
            train_command._refuse_foreign({foreign}, config)


def test_what_does_nothing_is_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_command, "train", lambda config, options: None)
    assert main(["train", *TINY, "--eta", "1.2"]) == 0
    assert "--eta does nothing here: experience is on-policy" in capsys.readouterr().err
    assert main(["train", *TINY, "--window", "2", "--eta", "1.2"]) == 0
    assert not capsys.readouterr().err


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from gpae.cli import main; main(['--help']);"
        "sys.exit(bool({'jax', 'numpy', 'tyro', 'rich', 'flax'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_importing_starts_no_backend():
    """A study beside its trainings would hold the memory of a GPU."""
    program = (
        "import gpae.cli, gpae.cli.train, gpae.diagnostics.pictures, gpae.studies.execute, gpae.report.build;"
        "from jax._src import xla_bridge; assert not xla_bridge._backends, xla_bridge._backends"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_lists(capsys):
    assert main(["envs"]) == 0
    text = capsys.readouterr().out
    for name in ("smax/3m", "smax/27m_vs_30m", "smax/smacv2_5_units", "mpe/simple_spread", "probe/team"):
        assert name in text
    assert main(["algorithms"]) == 0
    text = capsys.readouterr().out
    for name in ("gpae", "gpae-state", "coma", "mappo", "ippo", "vdn", "qmix", "iql", *names()):
        assert name in text


def test_presets_hold_the_published_settings():
    def values(name, algorithm):
        return values_of(preset(name, algorithm))

    assert values("paper", "gpae").items() >= PAPER.items()
    assert values("paper", "gpae")["window"] == 1  # as released
    assert values("paper-off-policy", "gpae").items() >= (PAPER | {"window": 4}).items()
    assert values("paper", "mappo")["embedding_size"] == 128
    assert values("mava", "mappo").items() >= MAVA.items()
    assert values("jaxmarl", "mappo").items() >= JAXMARL.items()
    ippo = JAXMARL | {"learning_rate": 4e-3, "clip": 0.05, "entropy": 0.01}
    assert values("jaxmarl", "ippo").items() >= ippo.items()


def test_presets_are_whole():
    """Each value belongs to those that it is for, and each file says where its values come from."""
    covered = {}
    for name in names():
        for algorithm in ALGORITHMS:
            with contextlib.suppress(UserError):
                preset(name, algorithm).validate()
                covered.setdefault(name, []).append(algorithm)
        text = resources.files("gpae.training.presets").joinpath(f"{name}.toml").read_text("utf-8")
        assert "\n# " in text or "our choice" in text
    assert covered["quickstart"] == covered["tuned"] == covered["jaxmarl"] == list(ALGORITHMS)
    assert covered["authors"] == ["coma-q", "dae", "dop"]
    assert "qmix" not in covered["paper"]
    assert preset("none", "qmix") == configure("qmix")


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
    credited = gpae("inspect", "credit", "runs/run", "-o", "credit.png")
    assert credited.returncode == 0, credited.stderr
    assert (tmp_path / "credit.png").stat().st_size > 1000
    used = gpae("inspect", "critic", "runs/run", "--envs", "8", "--json", "critic.json")
    assert used.returncode == 0, used.stderr
    assert "multiplies the error by" in used.stdout
    assert json.loads((tmp_path / "critic.json").read_text())["ratio"] > 0
    ungapped = gpae("inspect", "gap", "runs/run")
    assert ungapped.returncode == 2
    assert "--stop-agent" in ungapped.stderr
    undrawable = gpae("play", "runs/run")
    assert undrawable.returncode == 2
    assert "cannot be drawn" in undrawable.stderr

"""Presets: files in the studies' grammar, with what was published in them."""

import json
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from gpae.algorithms import ALGORITHMS
from gpae.envs.continuous_probes import Aim
from gpae.envs.probes import Team
from gpae.errors import UserError
from gpae.settings import settings_of, values_of
from gpae.studies.file import read_study
from gpae.training.config import ExperimentConfig, as_dict, from_dict
from gpae.training.presets import FAMILIES, groups, names, preset, summary

ROOT = Path(__file__).parents[2]
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
    "window": 1,
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
# What was released for MABrax (docs/presets.md).
PAPER_MABRAX = {
    "total_steps": 10_000_000,
    "num_envs": 64,
    "rollout_length": 128,
    "epochs": 5,
    "minibatches": 1,
    "learning_rate": 1e-3,
    "anneal": True,
    "adam_epsilon": 1e-5,
    "gamma": 0.99,
    "lambda_": 0.95,
    "clip": 0.2,
    "clip_values": True,
    "huber": 10.0,
    "entropy": 0.01,
    "value_coefficient": 0.5,
    "max_grad_norm": 1.0,
    "hidden_size": 128,
    "layer_norm": True,
    "recurrent": False,
    "actor_identity": True,
    "timeout_is_termination": True,
    "normalise_observations": False,
    "normalise_values": False,
    "action_scale": "free",
    "squash": False,
    "window": 1,
    "eta": 1.05,
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


def text(name):
    return resources.files("gpae.training.presets").joinpath(f"{name}.toml").read_text("utf-8")


def covered(name):
    """The algorithms that a preset is for: of its own line, or of what it extends."""
    found = tomllib.loads(text(name))
    if "algorithms" not in found:
        return covered(found["extends"])
    return [a for a, cls in ALGORITHMS.items() if set(found["algorithms"]) & set(groups(cls))]


def values(name, algorithm):
    return values_of(preset(name, algorithm))


def test_presets_hold_the_published_settings():
    assert values("paper", "gpae").items() >= PAPER.items()
    # As released, on-policy; the window of the off-policy results is published nowhere.
    off_policy = PAPER | {"window": 4}
    for algorithm in ("gpae", "gpae-state", "coma"):
        assert values("paper-off-policy", algorithm).items() >= off_policy.items()
    mappo = values("paper", "mappo")
    assert (mappo["window"], mappo["embedding_size"]) == (1, 128)
    assert values("mava", "mappo").items() >= MAVA.items()
    for algorithm in ("gpae", "mappo", "ippo"):
        assert values("paper-mabrax", algorithm).items() >= PAPER_MABRAX.items()
    gpae = values("paper-mabrax", "gpae")
    assert (gpae["critic_identity"], gpae["normalise_actions"], gpae["embedding_size"]) == (False, True, 64)
    assert values("jaxmarl", "mappo").items() >= JAXMARL.items()
    ippo = JAXMARL | {"learning_rate": 4e-3, "clip": 0.05, "entropy": 0.01}
    assert values("jaxmarl", "ippo").items() >= ippo.items()


@pytest.mark.parametrize("run", ["gpae-0.03", "mappo-0.03"])
def test_the_runs_that_the_preset_tuned_5m_vs_6m_names_were_made_with_it(run):
    made = json.loads((ROOT / "results/entropy/runs" / run / "config.json").read_text())
    plan = {
        "env": "smax/5m_vs_6m",
        "env_options": ("version=0.1",),
        "seeds": 5,
        "evaluations": 10,
        "total_steps": 5_000_000,
    }
    plan |= {"evaluation_episodes": 128, "updates_per_call": 5, "groups": 1}
    assert from_dict(made) == preset("tuned-5m_vs_6m", made["algorithm"], **plan)


@pytest.mark.parametrize(("study", "runs"), [("5m_vs_6m", 6), ("entropy", 8), ("5m_vs_6m-methods", 3)])
def test_every_run_of_5m_vs_6m_has_the_settings_of_its_study(study, runs):
    planned = {run.name: run.config for run in read_study(ROOT / f"studies/{study}.toml", Path("runs")).runs}
    kept = sorted((ROOT / "results" / study / "runs").iterdir())
    assert len(kept) == runs
    for folder in kept:
        made = from_dict(json.loads((folder / "config.json").read_text()))
        assert made == planned[f"smax-5m_vs_6m-{folder.name}"].replace(groups=1)


def test_the_preset_tuned_3s_vs_5z_is_what_its_study_trains(seen_critic):
    runs = read_study(ROOT / "studies/3s_vs_5z.toml", Path("runs")).runs
    best = {run.name.removeprefix("smax-3s_vs_5z-"): run for run in runs}
    for run in (best[name] for name in ("mappo-normalised", "gpae-normalised", "ippo", "gpae-seen")):
        plan = {"env": "smax/3s_vs_5z", "seeds": 5, "groups": 1}
        plan |= {"evaluations": 20, "evaluation_episodes": 64, "total_steps": 819_200}
        assert run.config == preset("tuned-3s_vs_5z", run.algorithm, **plan)


def test_the_run_that_the_preset_mabrax_names_was_made_with_it():
    made = json.loads((ROOT / "results" / "mabrax-smoke" / "config.json").read_text())
    plan = {name: made[name] for name in ("env", "total_steps", "evaluations", "evaluation_episodes")}
    assert from_dict(made) == preset("mabrax", "gpae", groups=1, **plan)


@pytest.mark.parametrize("name", names())
def test_every_preset_is_whole_for_every_algorithm_that_it_covers(name):
    assert covered(name)
    for algorithm in covered(name):
        config = preset(name, algorithm).validate()
        config.algorithm.fits(Aim().spec if "mabrax" in name else Team().spec)
        assert config.algorithm.name == algorithm


@pytest.mark.parametrize("name", names())
def test_every_preset_is_written_in_the_grammar_of_studies(name):
    found = tomllib.loads(text(name))
    assert set(found) <= {"summary", "extends", "algorithms", "steps", "all", "for"}
    assert isinstance(found["summary"], str)
    assert "\n" not in found["summary"]
    assert summary(name) == found["summary"]
    assert found.get("extends", "quickstart") in names()
    assert set(found.get("algorithms", [])) <= {*FAMILIES, *ALGORITHMS}
    # A table says something to some algorithm that the preset covers, and its keys are settings of all of these.
    reached = {group: [a for a in covered(name) if group in groups(ALGORITHMS[a])] for group in found.get("for", {})}
    for group, algorithms in {**reached, **({"all": covered(name)} if "all" in found else {})}.items():
        assert algorithms, f"[for.{group}] concerns nobody"
        table = found["all"] if group == "all" else found["for"][group]
        for algorithm in algorithms:
            known = {s.key for s in settings_of(ExperimentConfig(algorithm=ALGORITHMS[algorithm]())).values()}
            assert set(table) <= known, (group, algorithm)


@pytest.mark.parametrize("name", names())
def test_every_group_of_values_in_a_preset_has_its_source_above_it(name):
    """A comment above the first table at least: who says so."""
    lines = [line.strip() for line in text(name).splitlines()]
    assert any(line.startswith("#") and len(line) > 20 for line in lines)
    first = next(i for i, line in enumerate(lines) if line.startswith("["))
    assert lines[first - 1].startswith("#")


def test_the_last_table_that_concerns_an_algorithm_wins():
    assert preset("jaxmarl", "gpae").algorithm.networks.embedding_size == 64
    assert preset("jaxmarl", "mappo").algorithm.networks.embedding_size == 128
    assert preset("jaxmarl", "mappo", embedding_size=32).algorithm.networks.embedding_size == 32


def test_a_preset_without_settings_for_an_algorithm_is_refused_with_those_that_have():
    with pytest.raises(UserError, match=r"paper has no settings for qmix; those that do: quickstart, .*none"):
        preset("paper", "qmix")
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        preset("quikstart")
    with pytest.raises(UserError, match="--beta belongs to dae"):
        preset("quickstart", "mappo", beta=0.5)


def test_none_is_plain_defaults_and_no_preset_is_remembered():
    for algorithm, cls in ALGORITHMS.items():
        assert preset("none", algorithm) == ExperimentConfig(algorithm=cls())
        assert "preset" not in as_dict(preset("quickstart", algorithm))
